"""What the chapters on theory compute for their checks and pictures."""
