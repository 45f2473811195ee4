package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/mem"
)

// ThisMachine reads the memory of the machine it runs on. Root is the file system's root, which
// holds /proc and /sys on Linux.
type ThisMachine struct {
	Root fs.FS
}

// HostUsed is what is in use on this machine: total less available, so that reclaimable caches
// don't count.
func (ThisMachine) HostUsed(ctx context.Context) (int64, error) {
	v, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return 0, fmt.Errorf("read this machine's memory: %w", err)
	}
	return int64(v.Total - v.Available), nil
}

// CgroupUsed is what this process's control group uses, less the file pages that the kernel would
// take back first (inactive_file), as the kubelet counts it. It knows cgroup v2 and v1.
func (m ThisMachine) CgroupUsed() (int64, error) {
	v2, v1, err := m.cgroupPaths()
	if err != nil {
		return 0, err
	}
	var tried []error
	for _, place := range []struct{ dir, usage, inactive string }{
		{path.Join("sys/fs/cgroup", v2), "memory.current", "inactive_file"},
		{"sys/fs/cgroup", "memory.current", "inactive_file"}, // inside a cgroup namespace
		{path.Join("sys/fs/cgroup/memory", v1), "memory.usage_in_bytes", "total_inactive_file"},
		{"sys/fs/cgroup/memory", "memory.usage_in_bytes", "total_inactive_file"},
	} {
		used, err := m.number(path.Join(place.dir, place.usage))
		if err != nil {
			tried = append(tried, err)
			continue
		}
		inactive, err := m.field(path.Join(place.dir, "memory.stat"), place.inactive)
		if err != nil {
			return 0, err
		}
		return max(used-inactive, 0), nil
	}
	return 0, fmt.Errorf("this process's control group does not tell its memory (is there one?): %w", errors.Join(tried...))
}

// cgroupPaths reads /proc/self/cgroup: lines of hierarchy:controllers:path, v2 with no controllers.
func (m ThisMachine) cgroupPaths() (v2, v1 string, err error) {
	data, err := fs.ReadFile(m.Root, "proc/self/cgroup")
	if err != nil {
		return "", "", fmt.Errorf("find this process's control group: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "":
			v2 = parts[2]
		case strings.Contains(","+parts[1]+",", ",memory,"):
			v1 = parts[2]
		}
	}
	return v2, v1, nil
}

func (m ThisMachine) number(name string) (int64, error) {
	data, err := fs.ReadFile(m.Root, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/%s does not hold a number: %w", name, err)
	}
	return n, nil
}

func (m ThisMachine) field(name, field string) (int64, error) {
	file, err := m.Root.Open(name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if key, value, _ := strings.Cut(lines.Text(), " "); key == field {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("/%s has no %s", name, field)
}
