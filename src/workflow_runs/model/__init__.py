"""What is known: values and rules. No input or output, no clock, no thread."""
