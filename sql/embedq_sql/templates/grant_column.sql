-- A right on one column of a table. privilege is a keyword, grantee a role or PUBLIC, option WITH GRANT OPTION or nothing.
GRANT {privilege} ({column}) ON {table} TO {grantee} {option};
