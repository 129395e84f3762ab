package server

import (
	"bytes"
	"net/http"
	"net/http/httptest"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	apiv1 "github.com/fluxcd/notification-controller/api/v1"
)

const path = apiv1.ReceiverWebhookPath + "receiver"

// Question is a request, and the receiver that it is sent to.
type Question struct {
	// Judge is the type of the receiver.
	Judge   string      `json:"judge"`
	Headers [][2]string `json:"headers"`
	Body    []byte      `json:"body"`
	Secret  string      `json:"secret"`
}

// Ask gives the status that a receiver of this type and token answers with.
func Ask(q Question) (int, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, apiv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return 0, err
		}
	}
	names := metav1.ObjectMeta{Name: "receiver", Namespace: "flux"}
	receiver := &apiv1.Receiver{
		ObjectMeta: names,
		Spec:       apiv1.ReceiverSpec{Type: q.Judge, SecretRef: meta.LocalObjectReference{Name: names.Name}},
		Status: apiv1.ReceiverStatus{
			WebhookPath: path,
			Conditions:  []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue}},
		},
	}
	secret := &corev1.Secret{ObjectMeta: names, Data: map[string][]byte{"token": []byte(q.Secret)}}
	cluster := fake.NewClientBuilder().
		WithScheme(scheme).
		WithObjects(receiver, secret).
		WithIndex(&apiv1.Receiver{}, WebhookPathIndexKey, IndexReceiverWebhookPath).
		Build()
	server := NewReceiverServer("", logr.Discard(), cluster, true, false)
	request := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(q.Body))
	for _, header := range q.Headers {
		request.Header.Add(header[0], header[1])
	}
	answer := httptest.NewRecorder()
	server.handlePayload(answer, request)
	return answer.Code, nil
}
