"""The patient tab, one file a panel."""
