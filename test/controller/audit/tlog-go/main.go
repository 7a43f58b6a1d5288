// Holds proofs that Weir made against golang.org/x/mod/sumdb: JSON on stdin, "ok" on stdout.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type proof struct {
	Index, Old, Size int64
	Proof            []string
}

type asked struct {
	Leaves, Roots          []string
	Inclusion, Consistency []proof
	Note, LogKey           string
}

func hash(text string) (h tlog.Hash) {
	bytes, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(bytes) != len(h) {
		fail("no hash: %q", text)
	}
	copy(h[:], bytes)
	return h
}

func hashes(texts []string) (out []tlog.Hash) {
	for _, text := range texts {
		out = append(out, hash(text))
	}
	return out
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

func main() {
	var in asked
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		fail("%v", err)
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, index := range indexes {
			out = append(out, stored[index])
		}
		return out, nil
	})
	for at, leaf := range in.Leaves {
		data, _ := base64.StdEncoding.DecodeString(leaf)
		more, err := tlog.StoredHashes(int64(at), data, reader)
		if err != nil {
			fail("%v", err)
		}
		stored = append(stored, more...)
		root, err := tlog.TreeHash(int64(at+1), reader)
		if err != nil || root != hash(in.Roots[at+1]) {
			fail("root of %d: %v", at+1, err)
		}
	}
	for _, one := range in.Inclusion {
		data, _ := base64.StdEncoding.DecodeString(in.Leaves[one.Index])
		err := tlog.CheckRecord(hashes(one.Proof), one.Size, hash(in.Roots[one.Size]), one.Index, tlog.RecordHash(data))
		if err != nil {
			fail("inclusion of %d in %d: %v", one.Index, one.Size, err)
		}
	}
	for _, one := range in.Consistency {
		err := tlog.CheckTree(hashes(one.Proof), one.Size, hash(in.Roots[one.Size]), one.Old, hash(in.Roots[one.Old]))
		if err != nil {
			fail("consistency of %d with %d: %v", one.Old, one.Size, err)
		}
	}
	verifier, err := note.NewVerifier(in.LogKey)
	if err != nil {
		fail("%v", err)
	}
	if _, err := note.Open([]byte(in.Note), note.VerifierList(verifier)); err != nil {
		fail("%v", err)
	}
	fmt.Println("ok")
}
