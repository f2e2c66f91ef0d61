// Put before the scripts of parts that build what they show, element by element.

const make = (name, parent, properties = {}) => {
  const element = Object.assign(document.createElement(name), properties)
  parent.append(element)
  return element
}
