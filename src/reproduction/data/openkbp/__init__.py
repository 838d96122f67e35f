"""OpenKBP: CT of head and neck."""
