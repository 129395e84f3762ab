// The notification-controller of Flux, asked whether one of its receivers takes a request.
//
// Its handlers are internal to its module. So this program is of the same module: the published files of `internal/server` that are
// about receivers are laid beside ours when it is built. The cluster that they look into is one in memory.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"github.com/fluxcd/notification-controller/internal/server"
)

func main() {
	var q server.Question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	status, err := server.Ask(q)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if status != http.StatusOK {
		fmt.Fprintln(os.Stderr, "it answered", status)
		os.Exit(1)
	}
	fmt.Println("null")
}
