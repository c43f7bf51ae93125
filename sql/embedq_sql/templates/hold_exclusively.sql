-- Nobody reads or writes a table until the transaction ends. table is a qualified name.
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
