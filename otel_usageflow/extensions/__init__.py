"""Extensions: what serves other components or the operator, and sees no spans."""
