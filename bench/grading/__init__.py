"""Grading a class beside nbgrader and otter-grader, a grader that is killed, and one that is attacked."""
