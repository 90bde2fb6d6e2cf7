"""What the checkpoints stand on. A module imports only from the lines below its own:

plugin         pytest's hooks: which checkpoints run, and who tells of it
fixtures apart the ways to the learner's work; one checkpoint in a process of its own
checkpoints    what a pytest item says of itself as a checkpoint
verdicts       from an exception to a verdict
deployments    what compose would start, started: real, or as a process
metrics sandwich what their service says of itself; that it lies between model and client
overload       more load than a service can serve, and what of it is answered well
walk           a random walk through what can happen to an admission control
inprocess      the learner's app on an event loop in a thread of its own
locustfile     where the parts of the learner's load test are, without importing it
loadtest       runs of Locust with what the learner wrote for it
recording      what a run of Locust left
targets        servers of known capacity, which count what arrives
recorder       what runs inside Locust and records it
farewell       a service that is asked to end while it is at work
spread         connections spread evenly over workers
containers plain the real container; its command as a plain process
running        a service as deployed: what can be asked of either
inspecting     what an image really holds
building       the learner's image, built for real
engine         the Docker engine: whether one answers, and that nothing is left on it
layering       what an image will hold, as far as a Dockerfile's text tells
container      what compose would start as the service: Dockerfile and compose.yaml together
traffic        load on a real server: plans
loops          the closed and the open loop
connections    one HTTP connection of the generator
report         results, and how they are told: card, JSON, Gradescope
probe          the model that the harness puts into the learner's service
costs          CPU time of code, as a ratio
kinds          a service of the lab's own that is quick to start
recipe compose context  a Dockerfile read; a compose.yaml read by compose; what a build gets to see
values         variables, durations and paths as a Dockerfile writes them
reading exchange what came back, in words; one request, message by message
servers judging
guarded progress watch isolation workspace trace virtual wallclock guard control talker warm slots store
"""
