"""Functions traced as they stand, and run as XLA programs that equal ones share.

To compile takes XLA a second or two, often more than the work itself; to trace takes a fifth of
that. So a `CompiledFunction` traces its function anew, with whatever model, layers, optimizer and
numbers it reaches: nothing of them is described, or built a second time. The traced graph is then
compared with those before it, by a digest of all that stands in it. If it is equal to one of them,
what was compiled for that one runs, on the variables of this one. So ten models of one shape
compile once, and whatever differs in anything compiles anew.
"""

import collections
import functools
import hashlib
import logging
import threading

import tensorflow as tf

from . import private

KEPT = 32  # executables that wait for further models; the one that was used longest ago goes first

logger = logging.getLogger(__name__)
_kept, _lock = collections.OrderedDict(), threading.Lock()  # digest -> _Executable
# One thread at a time: tracing is the work of Python, so that two gain nothing, and what TensorFlow
# keeps for all threads meanwhile, such as its registry of gradients, is not made for two.
_tracing = threading.RLock()


class CompiledFunction:
    """A function of tensors that runs as one XLA program, or plainly where XLA cannot compile it.

    It reads and assigns the very variables that the function does. Called while another function
    is traced, it becomes a part of that one.

    Args:
        function: takes tensors, in structures or not, and returns a structure of tensors.
        *arguments: tensors of the same shapes, or a `tf.TensorSpec` for each.

    Attributes:
        traced: the function, as TensorFlow has it.
        outputs: a `tf.TensorSpec` for each tensor that it returns, in the structure that it has.

    Raises:
        Exception: whatever the function raises as it is traced.
    """

    def __init__(self, function, *arguments):
        def flat(*tensors):
            result = function(*tf.nest.pack_sequence_as(arguments, tensors))
            structure.append(tf.nest.map_structure(lambda _: None, result))
            return [tf.convert_to_tensor(value) for value in tf.nest.flatten(result)]

        arguments = tf.nest.map_structure(_spec, arguments)
        specs, structure = tf.nest.flatten(arguments), []
        with _tracing:
            try:
                with private.numbers_as_inputs():
                    self.traced = _traced(flat, specs)
            except Exception as error:  # there is code that looks at its constants
                private.raise_interrupt(error)
                self.traced = _traced(flat, specs)
        self.outputs = tf.nest.pack_sequence_as(
            structure[-1], [_spec(o) for o in self.traced.outputs]
        )
        self._executable = _executable(self.traced)

    def __call__(self, *arguments, compiled=True):
        """Returns what the function returns; `compiled` says whether XLA may run it."""
        tensors = tf.nest.flatten(arguments)
        if tf.executing_eagerly():
            values = self._executable([*tensors, *self.traced.captured_inputs], compiled)
        else:
            values = self.traced(*tensors)
        return tf.nest.pack_sequence_as(self.outputs, values)


class _Executable:
    """What was compiled of a traced function; variables and numbers are among its inputs."""

    def __init__(self, traced):
        self.traced, self.is_refused = traced, False

    @functools.cached_property
    def compiled(self):
        specs = [_spec(each) for each in self.traced.inputs]
        compiled = _traced(lambda *inputs: _call(self.traced, inputs), specs, jit_compile=True)
        # `_call` would run this one uncompiled; within another function it runs as a program.
        return _traced(lambda *inputs: compiled(*inputs), specs)

    def __call__(self, inputs, compiled):
        if self.is_refused or not compiled:
            return _call(self.traced, inputs)
        try:
            return _call(self.compiled, inputs)
        except tf.errors.OpError as error:  # a program that fails has not assigned any variable
            values = _call(self.traced, inputs)  # where this fails too, it is not XLA's fault
            self.is_refused = True
            logger.info("XLA does not compile this, so TensorFlow runs it: %s", error)
            return values


def _call(traced, inputs):
    """Calls a traced function with its captured inputs among the others, which may be another's.

    Returns:
        What it returns, as a list. This is a third of a millisecond faster than `traced(*inputs)`.
    """
    dtypes = [output.dtype for output in traced.outputs]
    return tf.raw_ops.StatefulPartitionedCall(args=inputs, Tout=dtypes, f=traced)


def _spec(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _traced(function, specs, **options):
    # TensorFlow counts tracings by place in the source, and after five warns that one function was
    # traced too often. These are many, each traced once: a partial has a count of its own.
    partial = functools.partial(function)
    traced = tf.function(partial, autograph=False, **options).get_concrete_function(*specs)
    private.forget_gradients(traced.graph)
    return traced


def _executable(traced):
    """Returns the executable of this traced function, or of an equal one before it."""
    variables = {id(variable.handle): variable for variable in traced.variables}
    captures = []
    for tensor in traced.captured_inputs:
        like = variables.get(id(tensor), tensor)
        if like is tensor and tensor.dtype in (tf.resource, tf.variant):
            return _Executable(traced)  # a table, say: nobody else has that one
        captures.append((like.dtype, like.shape, tensor.dtype, tensor.device))
    # TF32 is decided as a program is compiled, and stands in no graph.
    settings = tf.config.experimental.tensor_float_32_execution_enabled()
    key = _digest(traced), str(captures), settings
    with _lock:
        if key not in _kept:
            _kept[key] = _Executable(traced)
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]


def _digest(traced):
    """Returns a digest of all that stands in a traced function; names of nodes do not count."""
    library = {each.signature.name: each for each in traced.graph.as_graph_def().library.function}

    @functools.cache
    def of(name):
        return digest(library[name])

    def digest(function):
        numbers = {}

        def place(reference):  # "node:output:0", "^node" or "argument"
            node, *output = reference.removeprefix("^").split(":")
            return reference[:1] == "^", numbers.setdefault(node, len(numbers)), output

        def attribute(name, value):
            functions = [value.func] if value.HasField("func") else value.list.func
            if functions:
                return [(of(each.name), str(each.attr)) for each in functions]
            if name == "_class":  # "loc:@node"
                return [place(each.decode().removeprefix("loc:@")) for each in value.list.s]
            return value.SerializeToString(deterministic=True)

        signature, said = function.signature, []
        said += [(place(each.name), each.type) for each in signature.input_arg]
        used, nodes = {each.split(":")[0] for each in function.ret.values()}, []
        for node in reversed(function.node_def):  # each stands behind those that it uses
            if node.op in ("Const", "Cast") and node.name not in used:
                continue  # left over from a number that became an input
            used |= {each.removeprefix("^").split(":")[0] for each in node.input}
            nodes.append(node)
        for node in reversed(nodes):
            attributes = [  # the last is for differentiation, and counts tracings
                (name, attribute(name, value))
                for name, value in sorted(node.attr.items())
                if name != "_gradient_op_type"
            ]
            inputs = [place(each) for each in node.input]
            said.append((place(node.name), node.op, inputs, node.device, attributes))
        said += [(place(function.ret[each.name]), each.type) for each in signature.output_arg]
        said.append(sorted(place(each) for each in function.control_ret.values()))
        return hashlib.sha256(repr(said).encode()).hexdigest()

    return digest(traced.function_def)
