"""Several CPU processes from `accelerate launch --cpu --num_processes N`.

On CPUs accelerate's launcher counts on MPI: without a hostfile it starts one process, whatever N is, and passes on an
address to meet at but not N. A training run that silently had one process would have another global batch, so the
program itself starts the missing ones.
"""

import os
import sys
from pathlib import Path

RANKS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # set: somebody starts all of them


def launcher_arguments(command: list[str]) -> list[str] | None:
    """What follows `accelerate launch` in a command line, however it was called; None if it is something else."""
    # an interpreter and its own flags may come first; what it runs is the first word that is no flag
    place = next((i for i, word in enumerate(command) if (i or _program(word)) and not word.startswith("-")), None)
    if place is None:
        return None
    program = _program(command[place])
    if program == "launch":
        return command[place + 1 :]
    return command[place + 2 :] if program and command[place + 1 : place + 2] == ["launch"] else None


def _program(word: str) -> str:
    """ "launch" for accelerate's launcher, "accelerate" for the command that has it as a subcommand, else ""."""
    if Path(word).name == "accelerate-launch" or word == "accelerate.commands.launch":
        return "launch"
    if word.endswith("accelerate/commands/launch.py"):
        return "launch"
    cli = ("accelerate", "accelerate_cli.py", "accelerate.commands.accelerate_cli")
    return "accelerate" if Path(word).name in cli else ""


def torchrun(arguments: list[str], script: list[str]) -> list[str]:
    """The torch.distributed.run command that starts what `accelerate launch` was asked for.

    Args:
        arguments: Of `accelerate launch`.
        script: Program and its arguments.
    """
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    asked, _, _ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    machines = asked.num_machines or 1
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(asked.num_processes // machines)]
    if machines > 1:
        command += ["--nnodes", str(machines), "--node_rank", str(asked.machine_rank or 0)]
    if asked.main_process_port is None and machines == 1:
        command += ["--standalone"]  # a free port: two runs on one machine do not meet
    else:
        command += ["--master_addr", asked.main_process_ip or "127.0.0.1", "--master_port", os.environ["MASTER_PORT"]]
    return [*command, *script]


def start_processes() -> None:
    """Becomes N processes where accelerate's launcher was asked for N and started one; else returns at once."""
    one_of_many = any(name in os.environ for name in RANKS)
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1", "yes")
    if one_of_many or not on_cpu or "MASTER_PORT" not in os.environ:
        return
    import psutil

    for parent in psutil.Process().parents():
        arguments = launcher_arguments(parent.cmdline())
        if arguments is not None:
            command = torchrun(arguments, sys.argv)
            sys.stdout.flush()
            os.execv(command[0], command)
    sys.exit(
        "error: MASTER_PORT asks for several CPU processes, but no `accelerate launch` that says how many was found; "
        f"start them with: torchrun --nproc_per_node N {' '.join(sys.argv)}"
    )
