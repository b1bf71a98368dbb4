// Coredns answers the names of a sandbox cluster's Services and pods. It is CoreDNS with the few plugins that this takes: the ones for
// clouds, tracing and other stores would make the program and its build several times as large.
package main

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"

	"github.com/coredns/coredns/coremain"
)

func main() {
	coremain.Run()
}
