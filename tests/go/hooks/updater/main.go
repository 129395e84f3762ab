// The Argo CD Image Updater's own parsers of webhooks, asked for what they make of a request.
//
// Its module needs others that no proxy of Go modules has, but its parsers need of all these only a type of four fields and a logger.
// So they are built here out of the published module, whose folder `pkg/webhook` is laid beside this file, without the file that is
// a server; the type and the logger are ours.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/argoproj-labs/argocd-image-updater/pkg/webhook"
)

type question struct {
	Judge   string      `json:"judge"`
	Headers [][2]string `json:"headers"`
	Body    []byte      `json:"body"`
	Secret  string      `json:"secret"`
	Query   string      `json:"query"`
}

func main() {
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	handler := webhook.NewWebhookHandler()
	handler.RegisterHandler(webhook.NewHarborWebhook(q.Secret))
	handler.RegisterHandler(webhook.NewDockerHubWebhook(q.Secret))
	handler.RegisterHandler(webhook.NewCloudEventsWebhook(q.Secret))
	request := httptest.NewRequest(http.MethodPost, "/webhook?type="+q.Judge+"&"+q.Query, bytes.NewReader(q.Body))
	for _, header := range q.Headers {
		request.Header.Add(header[0], header[1])
	}
	event, err := handler.ProcessWebhook(request)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(event)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
