"""What judges: from gathered facts to verdicts, looking at nothing itself."""
