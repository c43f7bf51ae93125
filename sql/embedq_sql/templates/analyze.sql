-- Fresh statistics, without which the planner may not choose a new index. table is a qualified name.
ANALYZE {table};
