# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: runs of two systems in turn, statistics, the table of goals, the command line.

A command is a module with a docstring, RUNS (how many by default), FEW (how many in run.py), measure(args), which gives
Rows, and, if it has further options, options(parser).
"""
import argparse
import json
import os
import random
import signal
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lab'))
from namespaces import LabError  # noqa: E402

# --- statistics -------------------------------------------------------------------------------------


def percentile(values, percent):
    """The smallest value that so many percent do not exceed."""
    return sorted(values)[max(0, -(-percent * len(values) // 100) - 1)]


def bootstrap(rounds, figure, draws=2000):
    """95 % interval of a figure of some rounds, or None where there is none. The seed is fixed."""
    rng = random.Random(1)
    found = [figure(rng.choices(rounds, k=len(rounds))) for _ in range(draws)]
    found = sorted(f for f in found if f is not None)
    return (found[len(found) * 25 // 1000], found[len(found) * 975 // 1000]) if found else None


class Row:
    """One line of the table. ours, peer: a figure of each round, of the same rounds; peer may be empty. of: what is compared,
    of one system's rounds. wants: (word of MEASURES, the most that the goal allows)."""

    def __init__(self, goal, what, ours, peer=(), unit='', digits=1, of=statistics.median, wants=()):
        self.goal, self.what, self.ours, self.peer = goal, what, list(ours), list(peer)
        self.unit, self.digits, self.of, self.wants = unit, digits, of, list(wants)

    def _ratio(self, pairs):
        below = self.of([p for _, p in pairs])
        return self.of([o for o, _ in pairs]) / below if below else None

    def ratio(self):
        return self._ratio(list(zip(self.ours, self.peer))) if self.ours and self.peer else None

    def interval(self):
        pairs = list(zip(self.ours, self.peer))
        return bootstrap(pairs, self._ratio) if len(pairs) > 1 else None

    def unmet(self):
        """Each want that is not met, in words."""
        found = []
        for word, limit in self.wants:
            value = MEASURES[word](self) if self.ours else None
            if value is None or value > limit:
                found.append(f'{word} {"unknown" if value is None else f"{value:.{max(self.digits, 2)}f}"}, wanted {limit}')
        return found

    def verdict(self):
        return '–' if not self.wants else 'not met: ' + '; '.join(self.unmet()) if self.unmet() else 'met'

    def cells(self):
        def summary(values):
            if not values:
                return '–'
            unit = f' {self.unit}' if self.unit else ''
            return f'{self.of(values):.{self.digits}f}{unit} (p95 {percentile(values, 95):.{self.digits}f}, most {max(values):.{self.digits}f})'
        ratio, interval = self.ratio(), self.interval()
        spread = f' [{interval[0]:.2f} .. {interval[1]:.2f}]' if interval else ''
        return [self.goal, self.what, summary(self.ours), summary(self.peer), f'{ratio:.2f}{spread}' if ratio is not None else '–',
                str(len(self.ours)), '; '.join(f'{word} <= {limit}' for word, limit in self.wants) or '–', self.verdict()]


MEASURES = {
    'ratio': Row.ratio,
    'upper bound of the ratio': lambda row: (row.interval() or (None, row.ratio()))[1],
    'median': lambda row: statistics.median(row.ours),
    'mean': lambda row: statistics.fmean(row.ours),
    'p95': lambda row: percentile(row.ours, 95),
    'p99': lambda row: percentile(row.ours, 99),
    'most': lambda row: max(row.ours),
    'median difference': lambda row: statistics.median(o - p for o, p in zip(row.ours, row.peer)) if row.peer else None,
}
HEAD = ['goal', 'what', 'ours: median (spread)', 'peer: median (spread)', 'ratio [95 %]', 'runs', 'wanted', 'verdict']


def table(rows):
    """The rows as a table that Markdown understands, columns aligned."""
    lines = [HEAD] + [r.cells() for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    texts = ['| ' + ' | '.join(cell.ljust(w) for cell, w in zip(line, widths)) + ' |' for line in lines]
    return '\n'.join([texts[0], '|' + '|'.join('-' * (w + 2) for w in widths) + '|', *texts[1:]])


def unmet(rows):
    return [f'goal {r.goal}, {r.what}: {"; ".join(r.unmet())}' for r in rows if r.unmet()]


# --- runs -------------------------------------------------------------------------------------------


def in_turn(runs, systems, one):
    """{system: [what one(system) gave, round by round]}. Every second round goes the other way round. A round that fails ends it: those
    that were whole are kept, and the failure is told."""
    found = {s: [] for s in systems}
    for i in range(runs):
        try:
            for s in systems if i % 2 == 0 else reversed(systems):
                found[s].append(one(s))
        except LabError as e:
            print(f'round {i + 1} of {runs} failed, the table has the rounds before it: {e}', flush=True)
            return {s: results[:i] for s, results in found.items()}
    return found


def column(results, key):
    return [r[key] for r in results if r.get(key) is not None]


# --- the command line -------------------------------------------------------------------------------


def parse(module, words=None):
    p = argparse.ArgumentParser(description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--runs', type=int, default=module.RUNS, help=f'rounds; {module.RUNS} by default')
    p.add_argument('--net', choices=('bridge', 'ovs'), default='bridge')
    p.add_argument('--json', help='file for all single figures')
    if hasattr(module, 'options'):
        module.options(p)
    return p.parse_args(words)


def save(path, rows):
    with open(path, 'w') as f:
        json.dump([{**vars(r), 'of': r.of.__name__, 'ratio': r.ratio(), 'verdict': r.verdict()} for r in rows], f, indent=1)


def end_on_sigterm():
    """So that labs are removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('bench: terminated'))


def main(module):
    """Runs the command; its exit status does not tell whether goals are met."""
    args = parse(module)
    end_on_sigterm()
    try:
        rows = module.measure(args)
    except LabError as e:
        sys.exit(f'bench: {e}')
    print(f'\n{table(rows)}\n\nload {" ".join(f"{n:.1f}" for n in os.getloadavg())}, {os.cpu_count()} cores')
    if args.json:
        save(args.json, rows)
