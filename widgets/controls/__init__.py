"""Controls of a search: form, transport, time slider."""
