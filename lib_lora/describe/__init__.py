"""What a file is and which base model it is for, from its header alone."""
