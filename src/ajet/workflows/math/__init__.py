"""Word problems, a calculator and boxed answers: the tool-using agent."""
