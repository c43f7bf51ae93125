-- One step of a watched table's backfill, by the function that was made for it: rows that were read; 0: done; null: another's.
SELECT embedq.{function}(%(most)s);
