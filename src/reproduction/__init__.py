"""The experiment of the book: data sets, networks, runs, scores, tables and figures. It needs the repository."""
