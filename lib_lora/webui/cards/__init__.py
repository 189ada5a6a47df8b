"""The page of cards in the WebUI: an extra-networks page, one card, the window behind its edit button."""
