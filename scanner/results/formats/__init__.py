"""Sites in the formats of other programs, and joined to files of the user."""
