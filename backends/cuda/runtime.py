def compile_for(device, jaxpr, donated=frozenset()):
    raise NotImplementedError
