package janitor

// Progress is how far one node's work has come. Keys and Scanned belong to the phase ("survey" or
// "walk") and the walk in hand; Evicted and FreedBytes count since the run began, and in a dry run
// say what would have gone. NeedBytes is what is to be freed in all, 0 where no target is set.
type Progress struct {
	Node                                          string
	Phase                                         string
	Walk                                          int
	Keys, Scanned, Evicted, FreedBytes, NeedBytes int64
}
