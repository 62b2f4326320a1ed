"""Images that are the same, or of one scene."""
