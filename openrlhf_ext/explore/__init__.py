"""`openrlhf-ext explore`: first pits of wrong solutions, with engines."""
