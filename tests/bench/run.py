#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""All benchmarks in the lab, with few runs of each: one table, and the goals that are not met.

    run.py [NAME...] [--runs N] [--net bridge|ovs] [--markdown FILE]

NAME: only these commands (switchover, pause, migrate, ...). --runs instead of each command's own few. A command that fails is told, and
the others go on. The bench against nova-compute is apart: ./quickstart openstack bench.
"""
import argparse
import os
import sys
import time

import calls
import cancel
import convergence
import drain
import figures
import migrate
import pause
import prediction
import start
import storage
import switchover

COMMANDS = (migrate, pause, switchover, start, calls, drain, convergence, prediction, cancel, storage)


def run(module, runs, net):
    """Its rows, and what went wrong."""
    print(f'\n== {module.__name__}: {module.__doc__.splitlines()[0]}', flush=True)
    began = time.monotonic()
    try:
        return module.measure(figures.parse(module, ['--runs', str(runs or module.FEW), '--net', net])), None
    except figures.LabError as e:
        return [], f'{module.__name__} failed: {e}'
    finally:
        print(f'   ({time.monotonic() - began:.0f} s)', flush=True)


def main():
    names = {m.__name__: m for m in COMMANDS}
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', metavar='NAME', help=', '.join(names))
    p.add_argument('--runs', type=int)
    p.add_argument('--net', choices=('bridge', 'ovs'), default='bridge')
    p.add_argument('--markdown', help='file for the table')
    args = p.parse_args()
    for name in set(args.names) - set(names):
        p.error(f'no command {name}: {", ".join(names)}')
    figures.end_on_sigterm()
    rows, failed = [], []
    for module in [names[n] for n in args.names] or COMMANDS:
        found, problem = run(module, args.runs, args.net)
        rows += found
        failed += [problem] if problem else []
    text = figures.table(sorted(rows, key=lambda r: int(r.goal)))
    print(f'\n{text}\n\nload {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n\nnot met:')
    print('\n'.join(f'- {line}' for line in [*figures.unmet(rows), *failed] or ['nothing']))
    if args.markdown:
        with open(args.markdown, 'w') as f:
            f.write(text + '\n')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
