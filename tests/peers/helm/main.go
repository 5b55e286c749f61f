// Helm's own reading, checking and rendering of a chart, without what talks to clusters.
//
//	helmpeer lint CHART [VALUES]
//	helmpeer template CHART RELEASE NAMESPACE [VALUES]
//
// VALUES is a file. The manifests, of which no file is empty, and the notes after a line
// "# NOTES" go to stdout; the status is 1 when Helm finds something wrong.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

func main() {
	err := fmt.Errorf("usage: helmpeer lint CHART [VALUES] | template CHART RELEASE NAMESPACE [VALUES]")
	switch {
	case len(os.Args) > 2 && os.Args[1] == "lint":
		err = check(os.Args[2], os.Args[3:])
	case len(os.Args) > 4 && os.Args[1] == "template":
		err = render(os.Args[2], os.Args[3], os.Args[4], os.Args[5:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func given(files []string) (chartutil.Values, error) {
	if len(files) == 0 {
		return chartutil.Values{}, nil
	}
	return chartutil.ReadValuesFile(files[0])
}

func check(path string, files []string) error {
	values, err := given(files)
	if err != nil {
		return err
	}
	found := lint.All(path, values, "sidelong", true)
	for _, message := range found.Messages {
		fmt.Println(message.Error())
	}
	if found.HighestSeverity >= support.WarningSev {
		return fmt.Errorf("helm lint objects")
	}
	return nil
}

func render(path, release, namespace string, files []string) error {
	values, err := given(files)
	if err != nil {
		return err
	}
	chart, err := loader.Load(path)
	if err != nil {
		return err
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, IsInstall: true}
	whole, err := chartutil.ToRenderValues(chart, values, options, chartutil.DefaultCapabilities)
	if err != nil {
		return err
	}
	rendered, err := engine.Engine{Strict: true}.Render(chart, whole)
	if err != nil {
		return err
	}
	var names []string
	for name, text := range rendered {
		if filepath.Ext(name) == ".yaml" && strings.TrimSpace(text) != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Printf("---\n# Source: %s\n%s\n", name, strings.TrimSpace(rendered[name]))
	}
	for name, text := range rendered {
		if filepath.Base(name) == "NOTES.txt" {
			fmt.Printf("---\n# NOTES\n%s\n", "# "+strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n# "))
		}
	}
	return nil
}
