-- Look at the rows that are there, while others read and write.
ALTER TABLE {table} VALIDATE CONSTRAINT {proof};
