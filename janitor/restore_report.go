package janitor

import (
	"time"

	"redis-janitor/janitor/capsule"
)

// The reasons that capsules give.
const (
	CapsuleFull    Reason = "capsule_full"
	CapsuleDamaged Reason = "capsule_damaged"
	BadCapsule     Reason = "not_a_capsule"
	Complete       Reason = "complete"
	NothingLeft    Reason = "nothing_left"
)

// CapsuleReport tells of a capsule's file; what follows Bytes is told by restore only.
type CapsuleReport struct {
	File     string           `json:"file"`
	Keys     int64            `json:"keys"`  // that can be read; some may have stayed after all
	Bytes    int64            `json:"bytes"` // of the file
	MadeAt   *time.Time       `json:"made_at,omitempty"`
	Server   string           `json:"server,omitempty"`
	DB       *int             `json:"db,omitempty"`
	Blocks   int64            `json:"blocks,omitempty"`
	Complete *bool            `json:"complete,omitempty"`
	Damage   []capsule.Damage `json:"damage,omitempty"`
}

// RestoreReport counts what became of a capsule's keys. Keys is the sum of the others.
type RestoreReport struct {
	DryRun bool `json:"dry_run"` // then Restored is what would be
	RestoreCounts
	Families []RestoredFamily `json:"families"`
}

// RestoredFamily is one family's part of that.
type RestoredFamily struct {
	Name string `json:"name"`
	RestoreCounts
}

// RestoreCounts are the ways that a capsule's keys can go.
type RestoreCounts struct {
	Keys       int64 `json:"keys"`
	Restored   int64 `json:"restored"`
	Replaced   int64 `json:"replaced"`    // of those restored, with --replace: over a key that was there; known where it was looked first
	Exists     int64 `json:"exists"`      // a key of that name is there now
	Expired    int64 `json:"expired"`     // its time would be over by now
	Stayed     int64 `json:"stayed"`      // was captured and not deleted
	Unselected int64 `json:"unselected"`  // by --family or --match
	Unfit      int64 `json:"unfit"`       // the server can't read the value
	Uncertain  int64 `json:"uncertain"`   // the reply was lost: it may be back
	NotReached int64 `json:"not_reached"` // the run ended before
	Bytes      int64 `json:"bytes"`       // of the restored values, as DUMP wrote them
}
