"""What stands beside every result."""

RESEARCH_NOTICE = "Research use only: not for diagnosis or treatment."
