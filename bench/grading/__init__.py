"""Grading a class beside nbgrader and otter-grader, and a grader that is killed."""
