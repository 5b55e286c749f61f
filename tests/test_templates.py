"""Templates: they read incidents, escape what is foreign, and can do nothing else."""

import contextlib
import json
import time
from dataclasses import replace

import pytest
from alert_forms import HOSTILE, hostile, shop_incidents

from sidelong.alerts.sample import sample_incident, sample_incidents
from sidelong.alerts.templates import Rendering, Template
from sidelong.errors import ConfigError


def rendered(source: str, format: str = "text", **labels: str) -> str:
    return Template(source, name="chat.text", format=format).render([sample_incident()], labels)


def refused(source: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Template(source, name="chat.text")
    return caught.value.problem


def test_a_template_says_what_it_is_told_of_the_incident() -> None:
    source = (
        "{{ incident.actor.workload }}: {{ incident.objects|map(attribute='port')|join(', ') }}"
    )
    assert rendered(source) == "sample-shop/sample-frontend: 6379, 5432, 8443"


def test_a_template_loops_over_the_incidents_of_a_group() -> None:
    source = "{% for one in incidents %}{{ loop.index }} {{ one.kind }}\n{% endfor %}"
    told = Template(source, name="t").render(sample_incidents()[1], {})
    assert told == "1 scan\n2 dns_exfiltration\n"


def test_the_incident_of_a_group_is_its_most_recent_event() -> None:
    events = sample_incidents()[1]
    assert Template("{{ incident.id }}", name="t").render(events, {}) == events[-1].id


def test_what_is_not_there_is_nothing() -> None:
    assert rendered("[{{ incident.policy }}{{ labels.nobody }}]", team="x") == "[]"


def test_a_key_is_read_even_if_it_is_called_like_a_method() -> None:
    events = [replace(sample_incident(), counts={"items": 7, "keys": 8})]
    source = "{{ incident.counts.items if 'items' in incident.counts else '-' }}"
    assert Template(source, name="t").render(events, {}) == "7"


def test_a_label_can_be_asked_for() -> None:
    source = "{{ 'yes' if 'team' in labels else 'no' }}{{ labels.team }}{{ labels['team'] }}"
    assert rendered(source, team="pay") == "yespaypay"
    assert rendered(source) == "no"


def test_a_number_is_rounded_in_no_time() -> None:
    assert rendered("{{ incident.score|round(1) }} {{ 1|round(999999999) }}") == "0.6 1.0"


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("format", ["text", "html", "json", "markdown", "slack", "card"])
def test_what_looks_like_a_template_is_text(format: str, name: str) -> None:
    template = Template("{{ incident.summary }} {{ labels.team }}", name="t", format=format)
    told = template.render([hostile(name)], {"team": name})
    assert "49" not in told
    assert told.isprintable()


def test_values_are_escaped_and_what_the_template_says_is_not() -> None:
    event = replace(sample_incident(), summary="<!channel> *x*")
    slack = Template("<!subteam^S1> *{{ incident.summary }}*", name="t", format="slack")
    assert slack.render([event], {}) == "<!subteam^S1> *&lt;!channel&gt; *x**"
    page = Template("<b>{{ incident.summary }}</b>", name="t", format="html")
    assert page.render([event], {}) == "<b>&lt;!channel&gt; *x*</b>"


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_value_stays_inside_its_string_of_json(name: str) -> None:
    template = Template('{"text": "{{ incident.summary }}"}', name="t", format="json")
    assert list(json.loads(template.render([hostile(name)], {}))) == ["text"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("ok\n{% if %}", "the template chat.text is wrong in line 2: Expected an expression"),
        ("{{ incident.sumary }}", "the template chat.text fails on a sample incident: line 1: "),
        ("a\n\n{{ nobody }}", "fails on a sample incident: line 3: 'nobody' is undefined"),
        ("{{ incident.summary|safe }}", "wrong in line 1: No filter named 'safe'"),
        ("{{ incident.counts.bytes }}", "fails on a sample incident: line 1: "),
        ("x" * 9_000, "the template chat.text has 9,000 characters"),
    ],
)
def test_a_wrong_template_is_told_with_its_line_before_anything_starts(
    source: str, problem: str
) -> None:
    assert problem in refused(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ incident.summary.upper() }}",
        "{{ ''.__class__ }}",
        "{{ incident.__class__ }}",
        "{{ incident['__class__'] }}",
        "{{ incidents|map(attribute='__class__')|join }}",
        "{{ incident.objects|map('attr', '__class__')|join }}",
        "{{ labels|attr('__init__') }}",
        "{{ self }}",
        "{{ cycler }}",
        "{{ range(9) }}",
        "{{ lipsum }}",
        "{% include 'x' %}",
        "{% import 'x' as x %}",
        "{% extends 'x' %}",
        "{% macro m() %}{% endmacro %}",
        "{% set x = 1 %}",
        "{% set x %}{% endset %}",
        "{% filter upper %}x{% endfilter %}",
        "{% block x %}{% endblock %}",
        "{% with x = 1 %}{% endwith %}",
        "{{ 'a' * 1000 }}",
        "{{ 9 ** 9 }}",
        "{{ '%99999d' % 1 }}",
        "{{ '%99999d'|format(1) }}",
        "{{ 'x'|center(99999) }}",
        "{% for a in incidents recursive %}{% endfor %}",
        "{% for a in incident.summary %}{% endfor %}",
        "{% for a in 'aaa' ~ 'bbb' %}{% endfor %}",
        "{% for a in incidents %}{% for b in a.objects %}{% for c in a.objects %}"
        "{% endfor %}{% endfor %}{% endfor %}",
        "{{ " + "(" * 4_000 + "1" + ")" * 4_000 + " }}",
    ],
)
def test_a_template_can_call_define_and_multiply_nothing(source: str) -> None:
    with contextlib.suppress(ConfigError):
        assert Template(source, name="t").samples == ("", "", "")


def test_the_worst_template_is_done_soon_and_bounded() -> None:
    inner = "{{ a.summary ~ b.workload ~ b.workload }}" * 180
    source = (
        f"{{% for a in incidents %}}{{% for b in a.objects %}}{inner}{{% endfor %}}{{% endfor %}}"
    )
    template = Template(source, name="t", format="slack")
    many = [hostile("<" * 5_000)] * 300
    began = time.process_time()
    assert len(template.render(many, {})) <= 64 << 10
    assert time.process_time() - began < 20


def test_a_template_that_fails_on_an_incident_says_where() -> None:
    template = Template("x\n{{ 1 // incident.objects|length if incident.policy }}", name="t")
    bare = replace(shop_incidents()[0], objects=())
    with pytest.raises(Rendering, match="line 2: integer"):
        template.render([bare], {})
