"""What a person sees of a turn: one line, marks, a view of both its forms, and its test case."""
