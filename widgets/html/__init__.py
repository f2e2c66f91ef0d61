"""HTML, texts and pictures that several views share."""
