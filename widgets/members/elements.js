// Shared by scripts that build their elements one by one; included before them.

const make = (name, parent, properties = {}) => {
  const element = Object.assign(document.createElement(name), properties)
  parent.append(element)
  return element
}
