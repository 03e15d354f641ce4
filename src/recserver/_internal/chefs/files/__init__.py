"""Files as sources: delimited text, JSON lines, Parquet, Arrow."""
