"""What the pages of the book say about results: computed here, and tested."""
