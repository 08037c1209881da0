#!/usr/bin/env python3
"""Makes jinja/cases.jsonl: what Jinja2, set up as transformers sets it up for chat templates, gives for many small templates.

usage: make_jinja_cases.py OUT.jsonl [RANDOM [SEED]]      (needs transformers; RANDOM expressions are added, by default 200)

A line: {"template", "context", "output"} or {"template", "context", "error_type", "error"}. The text of an error matters only
for raise_exception (TemplateError). strftime_now is frozen at 2026-02-03T04:05:06.
"""
import datetime
import json
import os
import random
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers.utils import chat_template_utils as ctu

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi  <there> & 'you'\n"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello!", "reasoning_content": None},
    {"role": "user", "content": [{"type": "text", "text": "What is it? é日👍"}, {"type": "image"}]},
    {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": [True, None, 1.5]}}}]},
    {"role": "tool", "name": "f", "content": "{\"x\": 1}"},
]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "Does \"it\" — <b>", "parameters": {"type": "object", "properties": {
    "a": {"type": "integer", "description": "A", "enum": [1, 2]}, "b": {"type": ["string", "null"], "default": "x"}}, "required": ["a"]}}}]
CONTEXT = {
    "messages": MESSAGES, "tools": TOOLS, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", "n": 3, "f": 2.5,
    "big": 10 ** 18, "s": "Hello, World", "u8": "straße ΑΣ ǆ İı ﬁ", "l": [3, 1, 2], "d": {"b": 2, "a": 1, "c": None}, "e": [], "empty": "",
    "t": True, "nothing": None, "rows": [{"k": "x", "v": 2}, {"k": "Y", "v": 1}, {"k": "x", "v": 3}], "deep": {"a": [{"b": {"c": [1, 2]}}]},
}

# The kinds of things real chat templates do, whole.
TEMPLATES = r"""
{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content if m.content is string else m.content[0].text }} [/INST]{% elif m['role'] == 'assistant' %} {{ m.content|trim }}{{ eos_token }}{% endif %}{% endfor %}
{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}{{ system_message }}|{{ loop_messages|length }}
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}{% if message.content is string %}{{ message.content }}{% else %}{% for c in message.content %}{% if c.type == 'text' %}{{ c.text }}{% elif c['type'] == 'image' %}<image>{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}{%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}{%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}{{ ns.last_query_index }} {{ ns.multi_step_tool }}
{% for m in messages if m.role == 'assistant' %}{% set content = m.content %}{% if '</think>' in content %}{% set r = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}{% set content = content.split('</think>')[-1].lstrip('\n') %}[{{ r }}]{% endif %}({{ content }}){% endfor %}
{% for tool in tools %}{{ tool|tojson }}{{ tool | tojson(indent=4) }}{% endfor %}
{%- for tool in tools %}{%- set f = tool.function %}def {{ f.name }}({% for k, v in f.parameters.properties.items() %}{{ k }}: {{ v.type if v.type is string else v.type|join(' | ') }}{% if k not in f.parameters.required %} = {{ v.default|tojson }}{% endif %}{{ ', ' if not loop.last }}{% endfor %}){%- endfor %}
{% for m in messages %}{% if m.tool_calls is defined and m.tool_calls %}{% for c in m.tool_calls %}{{ '{"name": "' + c.function.name + '", "arguments": ' }}{{ c.function.arguments|tojson if c.function.arguments is mapping else c.function.arguments }}}{% endfor %}{% endif %}{% endfor %}
{% for m in messages %}{{ loop.index0 % 2 == 0 }}{% if (m.role == 'user') != (loop.index0 % 2 == 1) %}{{ raise_exception('Conversation roles must alternate: ' ~ loop.index) }}{% endif %}{% endfor %}
{{ raise_exception("Only user, \"assistant\" — " + messages[1].role) }}
{%- macro render(x, depth=0) -%}{%- if x is mapping -%}{ {%- for k, v in x|dictsort -%}{{ k }}={{ render(v, depth + 1) }}{{ ';' if not loop.last }}{%- endfor -%} }{%- elif x is iterable and x is not string -%}[{%- for v in x -%}{{ render(v, depth + 1) }}{%- endfor -%}]{%- else -%}{{ depth }}:{{ x }}{%- endif -%}{%- endmacro -%}{{ render(deep) }}{{ render(d) }}
{% macro field(name, type='text', **kw) %}<{{ name }} {{ type }} {{ kwargs }}>{% endmacro %}{{ field('a') }}
{% macro f(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 3, 4, 5, z=1) }}{{ f.name }}{{ f.arguments }}{{ f.catch_kwargs }}{{ f.catch_varargs }}{{ f.caller }}
{% macro wrap(tag) %}<{{ tag }}>{{ caller(tag|upper, 2) }}</{{ tag }}>{% endmacro %}{% call(x, y) wrap('b') %}{{ x }}{{ y }}{{ n }}{% endcall %}
{% macro outer() %}{% macro inner(x) %}({{ x }}){% endmacro %}{{ inner(caller()) }}{% endmacro %}{% call outer() %}body{% endcall %}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{% macro f(x, y=x ~ '!') %}{{ y }}{% endmacro %}{{ f('q') }} {{ f(x='r') }} {{ f(*['s']) }} {{ f(**{'x': 't', 'y': 'u'}) }}
{% macro f(x) %}{{ x }}{% endmacro %}{{ f() }}|{{ f(none) }}
{% macro f() %}{% set z = 5 %}{{ z }}{% endmacro %}{{ f() }}{{ z is defined }}{% set m = f %}{{ m() }}
{% for i in range(3) %}{% for j in range(i) %}{{ loop.index }}/{{ loop.length }} {% else %}none {% endfor %}{% endfor %}
{% for i in range(7) %}{{ loop.cycle('a', 'b', 'c') }}{% endfor %}{% for i in l %}{{ loop.cycle(*['x', 'y']) }}{% endfor %}
{% for r in rows %}{% if loop.changed(r.k) %}<{{ r.k }}>{% endif %}{{ r.v }}{% endfor %}
{% for r in rows %}{% if loop.previtem is defined and loop.previtem.k != r.k %}-{% endif %}{{ r.v }}{% if loop.nextitem %}+{{ loop.nextitem.v }}{% endif %}{% endfor %}
{% for k in [{'v': 1, 'c': [{'v': 2, 'c': []}, {'v': 3, 'c': [{'v': 4}]}]}] recursive %}{{ loop.depth0 }}{{ k.v }}{% if k.c %}[{{ loop(k.c) }}]{% endif %}{% endfor %}
{% for x in l|sort(reverse=true) %}{{ x }}{% if loop.index == 2 %}{% break %}{% endif %}{% else %}never{% endfor %}
{% for x in range(10) if x is odd %}{% if x == 5 %}{% continue %}{% endif %}{{ x }}{{ loop.last }}{% endfor %}
{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for k, v in d.items() %}{{ loop.index }}:{{ k }}={{ v }},{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for v in d.values() %}{{ v }}{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = x + 1 %}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}
{% set ns = namespace(c=0, text='') %}{% for i in l %}{% set ns.c = ns.c + i %}{% set ns.text = ns.text ~ i ~ ',' %}{% endfor %}{{ ns.c }} {{ ns.text }} {{ ns.missing is defined }}
{% set body %}{% for i in l %}{{ i }};{% endfor %}{% endset %}{{ body|length }}{{ body }}{{ body.split(';') }}
{% set a | trim | upper %}  x{{ n }}y  {% endset %}[{{ a }}]
{% set a, (b, c) = 1, (2, 3) %}{{ a }}{{ b }}{{ c }}
{% filter upper|replace('L', '1') %}hello {{ s }}{% endfilter %}
{% with x = 1, y = x %}{{ x }}{{ y }}{% endwith %}{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
{% generation %}a{% for i in l %}{{ i }}{% endfor %}{% endgeneration %}b
{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}
{% raw %}{{ x }}{% if %}{% endraw %}{{ '{%' }}
a {#- c -#} b {# d #}
  {%- if true -%}  x  {%- endif -%}  y
{{ strftime_now('%d %B %Y %H:%M:%S %j %y %b %a %A %p %I %%') }}
{% if strftime_now is defined %}{{ strftime_now("%Y-%m-%d") }}{% endif %}{{ raise_exception is callable }}
{% set tz = none %}{{ 'a' if tz }}{{ tz or 'b' }}{{ (tz and tz.x) is none }}
{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list|length }} {{ messages|selectattr('tool_calls', 'defined')|list|length }} {{ messages|rejectattr('role', 'in', ['user', 'system'])|map(attribute='role')|join(',') }}
{{ messages|map(attribute='role')|unique|sort|join('/') }} {{ (messages|last).role }} {{ (messages|first)['content'] }} {{ messages[-1]['role'] }}
{{ messages|groupby('role')|map('first')|list }} {% for role, group in messages|groupby('role') %}{{ role }}{{ group|length }} {% endfor %}
{{ rows|sort(attribute='v')|map(attribute='k')|list }} {{ rows|sort(attribute='k')|map(attribute='v')|list }} {{ rows|sum(attribute='v') }} {{ rows|max(attribute='v') }} {{ rows|min(attribute='k') }}
{{ rows|map(attribute='z', default='?')|list }} {{ deep|attr('a') }} {{ [deep]|map(attribute='a.0.b.c.1')|list }}
{{ d|dictsort }} {{ d|dictsort(by='value') if false }} {{ d|dictsort(reverse=true) }} {{ d|items|list }} {{ d|length }} {{ d|list }}
{{ [d, e, s, n, f, t, nothing]|tojson }} {{ {'é': '日\u2028</script>\x7f'}|tojson }} {{ u8|tojson(ensure_ascii=true) }} {{ '😀'|tojson(ensure_ascii=true) }}
{{ deep|tojson(indent=2) }} {{ deep|tojson(indent=0) }} {{ deep|tojson(indent='--') }} {{ {}|tojson(indent=2) }} {{ [[], {}]|tojson(indent=1) }}
{{ d|tojson(sort_keys=true, separators=(',', ':')) }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}
{% if n is defined and n is number and n > 2 and not (n is string) %}yes{% else %}no{% endif %}{% if nope is defined %}x{% elif nothing is none %}none{% endif %}
{{ 1 < n <= 3 }} {{ 1 < n > 5 }} {{ n in l }} {{ n not in [1] }} {{ 'k' in d }} {{ 'b' in d }} {{ 'ell' in s }} {{ none in [none] }} {{ 1.0 in l }}
{{ n == 3 and f == 2.5 or 1 / 0 }} {{ not n }} {{ not not n }} {{ -n }} {{ +f }} {{ - f ** 2 }} {{ 2 ** -1 }} {{ 7 // -2 }} {{ -7 % 3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}
{{ '%s|%r|%d|%5.2f|%-6s|%06d|%x|%o|%e|%g|%%|%c' % ('a', 'b', 7, 3.14159, 'l', 42, 255, 8, 12345.678, 0.0001, 'z') }}
{{ '%(a)s-%(b)03d' % {'a': 'x', 'b': 7} }} {{ '%s' % n }} {{ '%s %s' % (l, d) }} {{ '%+d % d' % (5, 5) }} {{ '%.3s' % 'abcdef' }}
{{ '{:>8}|{:<8}|{:^8}|{:*^9}|{:08.3f}|{:+d}|{:,}|{:_}|{:x}|{:#x}|{:b}|{:e}|{:%}|{:.0f}|{:g}'.format('a', 'b', 'c', 'd', 3.14159, 5, 1234567, 1234567, 255, 255, 5, 12345.6789, 0.25, 2.5, 1e10) }}
{{ '{a.b} {c[d]} {0[1]}'.format([1, 2], a={'b': 1}, c={'d': 4}) }}
{{ '{0} {name!r:>6} {{}} {1:{w}}'.format('x', 'y', name='q', w=4) }}
{{ range(5)|list }} {{ range(2, 8, 3)|list }} {{ range(5, 0, -2)|list }} {{ range(3) }} {{ range(3)|length }} {{ 2 in range(3) }} {{ range(10)[2:5] }} {{ range(4)[-1] }}
{{ cycler('a', 'b').next() }} {% set c = cycler(1, 2, 3) %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}
{% set j = joiner(' | ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}
{{ dict(a=1, **{'b': 2}) }} {{ dict(d, z=1) }} {{ dict(d).get('a') }} {{ d.get('q', 'w') }} {{ d.copy() }} {{ d.keys()|list }} {{ d.items()|list }}
{{ namespace(a=1) is mapping }} {{ (1, 2) is sequence }} {{ {} is sequence }} {{ 'a' is iterable }} {{ 5 is iterable }} {{ range is callable }} {{ s.upper is callable }}
{{ big * big }} {{ big ** 5 }} {{ (2 ** 100) // 3 }} {{ (2 ** 100) % 1000007 }} {{ -(2 ** 65) }} {{ 2 ** 64 > 2 ** 63 }} {{ 2 ** 100 / 3 }} {{ (2 ** 80)|string|length }} {{ 2 ** 80 == 2.0 ** 80 }} {{ '%d' % (2 ** 70) }} {{ '{:,}'.format(2 ** 70) }} {{ '{:x}'.format(2 ** 70) }} {{ (2 ** 70)|float }} {{ 1e25|int }} {{ '123456789012345678901234567890'|int }} {{ [2 ** 70]|tojson }} {{ (2 ** 70 + 1)|round(-5) }} {{ -(2 ** 70)|abs }} {{ 2 ** 70 is odd }} {{ 2 ** 70 is integer }}
{{ 9007199254740993 == 9007199254740992.0 }} {{ 9007199254740993 < 9007199254740994.0 }} {{ 9007199254740993 / 1 }} {{ 9007199254740993|float }} {{ [2 ** 70, 5, 1e30, -1]|sort }} {{ -9223372036854775807 - 2 }} {{ 9223372036854775807 // -1 }} {{ (-9223372036854775807 - 1) // -1 }} {{ (0 - 2 ** 70) // 7 }} {{ (0 - 2 ** 70) % 7 }} {{ 2 ** 70 % -7 }} {{ 0x10000000000000000 }} {{ [1] * (2 ** 70 % 3) }}
{{ 10 ** 5000 > 1 }} {{ 10 ** 4299 == 10.0 }} {{ (10 ** 4299)|string|length }}
{{ 10 ** 5000 }}
{{ 10 ** 400 / 10 ** 399 }} {{ 10 ** 400 * 1.0 }}
{{ 0.1 }} {{ 1e100 }} {{ 1.0 }} {{ 123456789.123456789 }} {{ 1e-7 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }} {{ 100.0 * 3 }} {{ 1 / 3 }} {{ 2 / 3|float }} {{ 1e16 + 1 }} {{ 3.0|int }} {{ 2.5|round }} {{ 3.5|round }} {{ 0.5|round|int }} {{ 1.005|round(2) }} {{ 1234.5678|round(-2) }} {{ 42.55|round(1, 'floor') }} {{ 42.55|round(1, 'ceil') }}
{{ '  a b  c '.split() }} {{ 'a,b,c,d'.rsplit(',', 2) }} {{ 'a,b,c,d'.split(',', 2) }} {{ '  a b  c '.rsplit(None, 1) }} {{ '  a b  c '.split(None, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'aXXbXX'.split('XX') }} {{ 'aaa'.split('aa') }} {{ 'aaa'.rsplit('aa') }}
{{ 'a\nb\r\nc\rd\x0be\u2028f'.splitlines() }} {{ 'a\n\nb\n'.splitlines(true) }} {{ 'k=v=w'.partition('=') }} {{ 'k=v=w'.rpartition('=') }} {{ 'kv'.partition('=') }} {{ 'kv'.rpartition('=') }}
{{ u8.upper() }} {{ u8.lower() }} {{ u8.title() }} {{ u8.capitalize() }} {{ u8.swapcase() }} {{ u8.casefold() }} {{ u8|title }} {{ u8|capitalize }} {{ u8|length }} {{ u8[::-1] }} {{ u8|reverse }}
{{ 'abcabc'.find('c', 3) }} {{ 'abcabc'.rfind('a', 0, 3) }} {{ 'abcabc'.count('bc') }} {{ 'aaaa'.count('aa') }} {{ 'abc'.count('') }} {{ 'abc'.index('b') }} {{ 'abc'.find('') }} {{ 'abc'.startswith('b', 1) }} {{ 'abc'.endswith(('x', 'bc')) }} {{ 'é日é'.find('é', 1) }} {{ 'é日é'.rfind('é') }}
{{ 'abc'.replace('b', '<b>') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'ab'.replace('', '-') }} {{ '日本'.replace('', '.') }} {{ 'abc'|replace('a', 'x')|replace('c', 'y') }}
{{ 'x'.center(6) }}|{{ 'xy'.center(5, '*') }}|{{ 'x'.ljust(3) }}|{{ 'x'.rjust(3, '0') }}|{{ '-5'.zfill(4) }}|{{ 'x'|center(6) }}|{{ '+7'.zfill(5) }}
{{ '--a-b--'.strip('-') }} {{ 'abcba'.strip('ab') }} {{ '\u3000x\u00a0'.strip() }}| {{ 'xxa'.lstrip('x') }} {{ 'axx'.rstrip('x') }} {{ '  x'|trim }} {{ 'x\n'|trim('\n') }} {{ 'pre_x'.removeprefix('pre_') }} {{ 'x.py'.removesuffix('.py') }}
{{ 'a' 'b' ~ 1 ~ none ~ [1, 'x'] ~ {'k': (1,)} }} {{ 'tab\t"q" \'s\' \\ \x00 \x1f \x7f \xa0 \u200b \ue000 \U0001f600'|list|string }}
{{ ['it\'s', 'say "x"', "both ' \""] }} {{ {'a': 'é'} }} {{ (1,) }} {{ [(), [], {}] }} {{ [1.0, true, none, 'x'] }}
{{ l[1:] }} {{ l[::-1] }} {{ l[-2:] }} {{ l[:-1] }} {{ l[5:] }} {{ l[::2] }} {{ s[7:] }} {{ s[-5:-1] }} {{ s[::3] }} {{ l[-1:0:-1] }} {{ (1, 2, 3)[1:] }} {{ s[None:3] }} {{ l[0:2][1] }}
{{ [1, 2] + [3] }} {{ (1,) + (2,) }} {{ [0] * 3 }} {{ 'ab' * 2 }} {{ 3 * 'x' }} {{ [1, 2] == [1, 2] }} {{ [1, 2] < [1, 3] }} {{ 'a' < 'B' }} {{ (1, 'a') == (1, 'a') }} {{ {'a': 1} == {'a': 1.0} }}
{{ l|batch(2)|list }} {{ l|batch(2, 0)|list }} {{ l|slice(2)|list }} {{ l|slice(2, 'f')|list }} {{ l|join }} {{ l|join(', ') }} {{ rows|join('; ', attribute='k') }} {{ l|sum(start=10) }} {{ l|max }} {{ l|min }} {{ e|max is defined }} {{ e|first is defined }} {{ l|last }} {{ s|first }}
{{ 'hello world of text'|truncate(9) }} {{ 'hello world of text'|truncate(9, true) }} {{ 'hello world of text'|truncate(9, true, '..', 0) }} {{ 'hi'|truncate(9) }} {{ 'a b'|wordcount }} {{ 'one-two 3_4 é'|wordcount }} {{ 'a b/c?d=é&f'|urlencode }} {{ {'a b': 'c/d', 'e': 1}|urlencode }}
{{ 'l1\nl2\n\nl4'|indent }} {{ 'l1\nl2\n\nl4'|indent(2, first=true) }} {{ 'l1\nl2\n\nl4'|indent(2, blank=true) }} {{ 'x\ny'|indent('> ') }} {{ '<a&"\'>'|e }} {{ '<a>'|safe|e }} {{ '<a>'|e|e }} {{ '<a>'|forceescape }}
{{ nope|default('d') }} {{ nothing|default('d') }} {{ nothing|default('d', true) }} {{ empty|default('e', boolean=true) }} {{ 0|default(5) }} {{ nope.x is defined if nope is defined else 'n' }} {{ nope|default(n) + 1 }}
{{ d.nope is defined }} {{ d['nope'] is undefined }} {{ d.a.b is defined }} {{ l[10] is defined }} {{ messages[0].nope|default('z') }} {{ (nope or {}).x }} {{ nope|length }} {{ nope|list }} {{ nope ~ 'x' }}
{{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 4 is even }} {{ 4 is divisibleby 2 }} {{ 4 is divisibleby(3) }} {{ 'a' is in 'abc' }} {{ n is eq 3 }} {{ n is sameas 3 }} {{ n is gt 2 }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ nothing is sameas none }} {{ 1 is true }} {{ t is true }} {{ 1.5 is float }} {{ 1 is integer }} {{ true is integer }}
{{ ['b', 'A', 'c']|sort }} {{ ['b', 'A', 'c']|sort(case_sensitive=true) }} {{ [[2, 1], [1, 2]]|sort }} {{ ['b', 'B', 'a']|unique|list }} {{ [1, 1.0, true, '1']|unique|list }} {{ {'b': 1, 'A': 2}|dictsort }} {{ {'b': 1, 'A': 2}|dictsort(true) }} {{ ['a', 'b']|map('upper')|list }} {{ [1, 2, 3]|map('string')|join }} {{ ['1', 'x']|map('int', default=-1)|list }} {{ [1, 2, 3, 4]|select('divisibleby', 2)|list }} {{ [0, 1, '']|reject|list }} {{ ['a', none]|select('none')|list }}
{% if 'x' is string and 5 is not string %}a{% endif %}{% if not nope %}b{% endif %}{% if e %}c{% else %}d{% endif %}{% if nothing is not none %}x{% elif e|length == 0 %}y{% endif %}
{% block a %}x{% endblock %}{% block b scoped %}{{ n }}{% endblock b %}
{{ 1 if true }}{{ 1 if false }}{{ (1 if false) is undefined }}{{ 'a' if n > 1 else 'b' if n > 0 else 'c' }}
{% set message = messages[1] %}{{ message['content'].strip() + '\n' + message.role|upper + ':' }}{{ message.content|trim|length }}
{% set content = messages[3].content %}{% if content is not string %}{{ content|selectattr('type', 'equalto', 'text')|map(attribute='text')|join('\n') }}{% endif %}
{% for tool_call in messages[4].tool_calls %}{% if tool_call.function is defined %}{% set tool_call = tool_call.function %}{% endif %}<tool_call>\n{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments|tojson }}}\n</tool_call>{% endfor %}
{%- for k, v in messages[4].tool_calls[0].function.arguments|items %}{{ k }}={{ v|string }}|{{ v|tojson }};{% endfor %}
{% set x = namespace(v=[]) %}{% for i in l %}{% set x.v = x.v + [i * 2] %}{% endfor %}{{ x.v }} {{ x }}
{% set _ = d.update({'z': 1}) %}
{{ l.append(4) }}
{{ ''.__class__.__mro__ }}
{{ nope.x }}
{{ nothing.x.y }}
{{ 1 + 'a' }}
{{ n() }}
{{ l|sort(attribute='x')|list }}
{{ d|tojson(nope=1) }}
{{ 'x'.nope() }}
{{ {}['a'].b }}
{% for x in n %}{% endfor %}
{% for a, b in d %}{{ a }}{{ b }}{% endfor %}
{{ loop.index }}
{% macro f(a) %}{% endmacro %}{{ f(1, 2, 3) }}
{{ 'abc'|int(base=99) }}
{{ '%d' % 'x' }}
{{ '{:d}'.format('x') }}
{{ '{} {}'.format(1) }}
{{ [1, 'a', none]|sort }}
{{ [1, 2]|first|first }}
{{ {'a': [1]}|dictsort|first|last|first }}
{{ {[1]: 2} }}
{{ 5 % 0.0 }}
{{ 2 ** 5000 * 1.5 }}
{{ undefined_function(1) }}
{{ messages[0].content.foo.bar }}
{{ namespace()._x }}{{ namespace(a=1)['a'] }}
{{ x|nofilter }}
{{ x is notest }}
{% if false %}{{ x|nofilter }}{% endif %}ok{% if s %}yes{% else %}{{ s|nofilter(1) }}{% endif %}
{% if true %}{{ x|nofilter }}{% endif %}
{{ 'y' if n else x|nofilter }} {{ [x|nofilter if not n, 2] }}
{{ x|nofilter if s else 'y' }}
{% if s or s is notest %}a{% elif s|nofilter %}b{% endif %}
{% if x is notest %}a{% endif %}
{% if n > 5 and (n is notest or n is not notest(2)) %}a{% endif %}ok
{% if false %}{% for i in l|nofilter %}{{ i }}{% endfor %}{% endif %}ok
{% if false %}{% for i in l %}{{ i|nofilter }}{% endfor %}{% endif %}
{% if false %}{% for i in l %}{% if i %}{{ i|nofilter }}{% endif %}{% endfor %}{% endif %}ok
{% if false %}{% for i in l if i is notest %}{{ i }}{% endfor %}{% endif %}
{% if false %}{% for i in l %}{{ i }}{% else %}{{ n|nofilter }}{% endfor %}{% endif %}
{% if false %}{% macro f(a=1) %}{{ 1|nofilter }}{% endmacro %}{% endif %}
{% if false %}{% macro f(a=1|nofilter) %}{{ a }}{% endmacro %}{% endif %}
{% macro f() %}{% if false %}{{ 1|nofilter }}{% endif %}x{% endmacro %}{{ f() }}
{% if false %}{% set q = 1|nofilter %}{% set r %}x{% endset %}{% endif %}ok
{% if false %}{% set r %}{{ s|nofilter }}{% endset %}{% endif %}
{% if false %}{% set r|nofilter %}x{% endset %}{% endif %}
{% if false %}{% filter nofilter %}x{% endfilter %}{% endif %}
{% if false %}{% with a = 1|nofilter %}{{ a }}{% endwith %}{% endif %}ok
{% if false %}{% with a = 1 %}{{ a|nofilter }}{% endwith %}{% endif %}
{% if false %}{% generation %}{{ s|nofilter }}{% endgeneration %}{% endif %}
{% macro f(a) %}{{ caller() }}{% endmacro %}{% if false %}{% call f(1|nofilter) %}x{% endcall %}{% endif %}ok
{% macro f(a) %}{{ caller() }}{% endmacro %}{% if false %}{% call f(1) %}{{ s|nofilter }}{% endcall %}{% endif %}
{% if false %}{{ f(l|map('nofilter'), g=[s|nofilter, {'k': s is notest}]) }}{% endif %}ok
{{ l|map('nofilter')|list }}
{{ l|select('notest')|list }}
{{ s|nofilter }}{% if %}
{% set m = '<b>'|safe %}{{ [m, m + '<i>', '<i>' + m, m ~ '<i>', '<i>' ~ m, m * 2, 2 * m, m + m, '<i>' + '<u>' + m] }}
{% set m = '<b>&'|e %}{{ [m, m|e, m|string, m|upper, m|lower, m|capitalize, m|title, m|trim, m|replace('b', '<i>'), m|center(14), m|reverse, m|first, m|last, m|list, m|length, m|forceescape] }}
{% set m = ' <b> x '|safe %}{{ [m[1:], m[2], m[::-1], m.strip(), m.lstrip(), m.rstrip(), m.upper(), m.title(), m.capitalize(), m.swapcase(), m.casefold(), m.lower(), m.zfill(12), m.expandtabs()] }}
{% set m = '<b>,<i>'|safe %}{{ [m.split(','), m.rsplit(',', 1), m.splitlines(), m.partition(','), m.rpartition('<'), m.removeprefix('<'), m.removesuffix('>'), m.ljust(9, '.'), m.rjust(9), m.center(9, '*')] }}
{% set m = '<b>,<i>'|safe %}{{ [m.replace('b', '<u>'), m.replace('b', '<u>'|safe), m.replace('<', '&', 1), m.find('<i>'), m.count('<'), m.startswith('<b'), m in [m], '<b>,<i>' == m, m.isalpha()] }}
{{ [(', '|safe).join(['<a>', '<b>'|safe, '<c>']), ', '.join(['<a>', '<b>'|safe]), ['<a>', '<b>'|safe]|join('<'), ['<a>', '<b>'|safe]|join('<'|safe)] }} {{ (','|safe).join([1, none, '&']) }}
{{ [('<%s>'|safe) % '<i>', ('<%s>'|safe) % ('<i>'|safe), ('<%s %s>'|safe) % ('<', '>'|safe), ('%r'|safe) % '<', ('%(a)s'|safe) % {'a': '<'}, ('%s'|safe) % [1, '<'], ('%d %5.1f %%'|safe) % (3, 2.5), '%s' % ('<'|safe)] }}
{{ [('%5s|%-5s|%.2s'|safe) % ('<', '<', '<<'), ('<%s>'|safe)|format('<i>'), ('%(k)s'|safe)|format(k='&'), '%s'|format('<'|safe), ('%s %s'|safe)|format(n, l)] }}
{{ ('%x'|safe) % 255 }}
{{ ('%c'|safe) % 65 }}
{{ [('<{}>'|safe).format('<i>'), ('<{}>'|safe).format('<i>'|safe), ('{a} {0!r} {1:>4}'|safe).format('<', '&', a='"'), '{}'.format('<'|safe), '{!r}'.format('<'|safe), ('{:{}}'|safe).format(5, 3), ('{0[0]}'|safe).format(['<'])] }}
{{ ('{:>4}'|safe).format('<'|safe) }}
{{ '{:>4}'.format('<'|safe) }} {{ '{:>4}'.format(m) if m is defined }}
{{ ('<a>'|safe) + 1 }}
{{ ('<a>\n<b>\n\n<c>'|safe)|indent(2) }}|{{ [('<a>\n<b>'|safe)|indent, ('<a>\n<b>'|safe)|indent('>', true), '<a>\n<b>\n\nc'|indent('>'|safe), '<a>\n<b>\n\nc'|indent('>'|safe, blank=true), '<a>\n<b>'|indent('>'|safe, first=true), '<a>'|indent('>'|safe, true, true)] }}
{{ [('<b>hello world</b> and more'|safe)|truncate(14, end='<'), '<b>hello world</b> and more'|truncate(14, end='<'|safe), ('<b>hi'|safe)|truncate(9), ('<b>hello world'|safe)|truncate(9, true, leeway=0)] }}
{{ ['<'|safe is escaped, '<' is escaped, ('<'|safe ~ '') is escaped, ('<'|e)|tojson, ['<'|safe]|tojson, {'a': '<'|safe}, ('<'|safe)|urlencode, ('<'|safe)|pprint, ('<'|safe)|wordcount, 5|safe, none|safe, 5|e] }}
{% set x %}<b>{{ '<'|e }}{% endset %}{{ [x, x|e] }} {% macro f(a) %}{{ a }}{{ a is escaped }}{% endmacro %}{{ [f('<'|safe)] }} {% filter e %}<i>{{ '<'|e }}{% endfilter %} {% set y|e %}<{% endset %}{{ [y] }}
{{ ['<b>'|safe, '<a>']|map('upper')|list }} {{ ['b'|safe, 'a']|sort }} {{ ['a'|safe, 'a']|unique|list }} {{ {'a'|safe: 1}['a'] }} {{ {'a': 1}['a'|safe] }} {{ ('a'|safe) in {'a': 1} }} {{ ['<'|safe]|sum(start='') if false }} {{ ['<b>'|safe]|max }} {{ ('ab'|safe)|max }}
{{ ''|safe|default('<', true) }} {{ ('x'|safe).nope is defined }} {{ [nope|safe, nope|e] }} {{ [('1'|safe)|int, ('1.5'|safe)|float, ('b'|safe) < 'c', ('a'|safe) is string, ('A'|safe) is upper] }}
{% extends 'x' %}
{% import 'x' as y %}
{% for i in l %}{{ i }}
{{ {1: 2 }}
{% set = 5 %}
{{ 'unclosed }}
{{ 5..real }}
{% if n = 3 %}{% endif %}
{{ (lambda: 1)() }}
{{ l[1, 2] }}
{{ not }}
{{ 1 if }}
{{ n | }}
{% endfor %}
""".strip("\n").split("\n")

VALUES = ["0", "1", "-3", "7", "2.5", "-0.5", "1e20", "true", "false", "none", "''", "'a'", "'Hello World'", "'é日👍'", "' pad '", "'12'", "'-4.5'", "[]",
          "[1, 2, 3]", "['b', 'a']", "(1, 'x')", "{}", "{'a': 1}", "nope", "s", "l", "d", "n", "f", "big", "2**65", "u8", "rows", "range(4)", "'x,y,z'", "'<b>&'"]
FILTERS = ["abs", "capitalize", "count", "default('q')", "default('q', true)", "dictsort", "e", "escape", "first", "float", "int", "items|list", "join", "join('-')",
           "last", "length", "list", "lower", "max", "min", "reverse|list", "round", "round(1)", "safe", "sort", "string", "sum", "title", "tojson", "tojson(indent=2)", "trim",
           "unique|list", "upper", "urlencode", "wordcount", "batch(2)|list", "slice(2)|list", "center(9)", "indent", "replace('a', 'zz')", "truncate(4)", "map('string')|list",
           "select|list", "reject('none')|list", "format", "string|length", "list|tojson", "map(attribute='a')|list", "selectattr('a')|list", "groupby('k')|list", "pprint"]
TESTS = ["defined", "undefined", "none", "boolean", "integer", "float", "number", "string", "mapping", "sequence", "iterable", "callable", "odd", "even", "true", "false",
         "lower", "upper", "in [1, 'a']", "eq 1", "ne 'a'", "divisibleby 2", "sameas true", "gt 1", "le 2", "escaped", "filter", "test"]
METHODS = ["upper()", "lower()", "title()", "split()", "split(',')", "strip()", "strip('a ')", "startswith('a')", "isdigit()", "isalpha()", "replace('l', 'L')", "find('o')", "rfind('o')",
           "count('l')", "join(['p', 'q'])", "splitlines()", "format(1, x=2)", "items()", "keys()|list", "values()|list", "get('a')", "get('zz', 5)", "index(1)", "count(1)", "zfill(5)",
           "center(8, '*')", "ljust(6)", "capitalize()", "swapcase()", "casefold()", "isupper()", "islower()", "isspace()", "istitle()", "isalnum()", "isnumeric()", "isdecimal()",
           "isascii()", "isidentifier()", "isprintable()", "partition('l')", "rpartition('l')", "removeprefix('H')", "endswith('d')", "expandtabs()", "is_integer()", "real", "copy()"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not in"]


def random_expression(R, depth=0):
    kind = R.randrange(9) if depth < 3 else 0
    inner = lambda: random_expression(R, depth + 1)
    if kind == 0: return R.choice(VALUES)
    if kind == 1: return f"({inner()})|{R.choice(FILTERS)}"
    if kind == 2: return f"(({inner()}) is {R.choice(['', 'not '])}{R.choice(TESTS)})"
    if kind == 3: return f"({inner()}).{R.choice(METHODS)}"
    if kind in (4, 5): return f"({inner()} {R.choice(OPERATORS)} {inner()})"
    if kind == 6 and R.randrange(2): return f"{R.choice(['s', 'l', 'u8', 'rows', 'range(4)'])}[{R.choice(['1:', ':2', '::-1', '::2', '-2:', '2:0:-1'])}]"
    if kind == 6: return f"({inner()})[{R.choice(['0', '-1', chr(39) + 'a' + chr(39), inner()])}]"
    if kind == 7: return f"({inner()} if {inner()} else {inner()})"
    return R.choice([f"[{inner()}, {inner()}]", f"{{'k': {inner()}}}", f"({inner()},)", f"'%s' % ({inner()},)", f"'{{}}|{{!r}}'.format({inner()}, {inner()})", f"not {inner()}", f"-({inner()})"])


def used(template):
    return {k: v for k, v in CONTEXT.items() if k in template}


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None): return cls(2026, 2, 3, 4, 5, 6)


def reference(template, context):
    record = {"template": template, "context": context}
    try: record["output"] = ctu._compile_jinja_template(template).render(**json.loads(json.dumps(context)))
    except Exception as error: record.update(error_type=type(error).__name__, error=str(error)[:200])
    return record


def main():
    ctu.datetime = Frozen
    R = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    templates = TEMPLATES + [f"{{{{ [({v})|{R.choice(FILTERS)}, ({v}).{R.choice(METHODS)}] }}}}" for v in VALUES for _ in range(2)] if count else []
    templates += ["{{ " + random_expression(R) + " }}" for _ in range(count)]
    with open(sys.argv[1], "w", encoding="utf-8", newline="\n") as out:
        for template in templates:
            record = reference(template, used(template))
            if "unsupported format string" in record.get("error", "") or " at 0x" in record.get("output", ""): continue
            if len(record.get("output", "")) < 20000: out.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
