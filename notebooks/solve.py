"""Runs the solutions of the notebooks' exercises, and records what came out.

    python notebooks/solve.py          # all of them, a few minutes
    python notebooks/solve.py 03 06    # those of these notebooks

`solutions/03_training.py` has the functions `exercise_1`, `exercise_2` and so on, of the digits.
Each returns a dict of numbers, or of dicts of them, which go to `results.json` as "exercise 3.1".
"""

import argparse
import inspect
import os
import runpy
import time
from pathlib import Path

HERE = Path(__file__).parent


def solutions(path):
    """Returns the functions of a file of solutions, by their numbers."""
    named = runpy.run_path(str(path)).items()
    return {int(name.split("_")[1]): it for name, it in named if name.startswith("exercise_")}


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description="Run the solutions of the exercises.")
    parser.add_argument("names", nargs="*", help="how the names of the notebooks begin")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import vae_tf
    from vae_tf.analysis import results

    digits = vae_tf.load_mnist()
    out = results.output_directory(digits)
    for path in sorted((HERE / "solutions").glob("[0-9]*.py")):
        if arguments.names and not path.name.startswith(tuple(arguments.names)):
            continue
        for number, solve in solutions(path).items():
            name, start = f"exercise {int(path.stem[:2])}.{number}", time.perf_counter()
            print(f"{name}: {inspect.getdoc(solve).splitlines()[0]}", flush=True)
            values = solve(digits)
            results.record(out, name, digits, values)
            for key, value in values.items():
                print(f"    {key}: {value}")
            print(f"    {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
