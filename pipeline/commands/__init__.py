"""What stands behind the `icd` command beside the stages."""
