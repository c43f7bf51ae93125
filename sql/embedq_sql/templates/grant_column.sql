-- A right on a column of vectors. privilege is a keyword, grantee a role or PUBLIC, option WITH GRANT OPTION or nothing.
GRANT {privilege} ({vector}) ON {table} TO {grantee} {option};
