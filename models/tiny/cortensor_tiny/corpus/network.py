"""What Cortensor is, in question and answer form, told in plain words.

Each entry gives the names of a concept, a first sentence, and sentences that
may follow. The facts are those of the design documents of this repository.
"""

import random

from .grammar import Fact, expand, rows, sentence

# names (first is canonical) | short | first sentence | more
CONCEPTS = rows("""
Cortensor~the Cortensor network~this network|a decentralised AI network|Cortensor is a decentralised network for AI inference.|Anyone with a CPU or a GPU can serve open models and be paid per token, and anyone with an OpenAI client can use them. Nobody has to trust the node that answered.
a miner~the miner~miners|a node that runs models|A miner is a node that runs language models and answers prompts.|It is paid for every token that it delivers, and it signs a receipt for its work.
a router~the router~routers|a node that chooses miners|A router is a node that takes your request and picks a good miner for it.|It looks at speed, load, price and reputation, streams the answer back, and finds another miner if one fails.
a guard~the guard~guards|a node that checks miners|A guard is a node that checks the work of miners.|It replays a few answers that were drawn by chance and reports what it found.
an oracle~the oracle role~oracles|a node that brings results|An oracle is a node that brings results to the Cortensor chain.|It is one of the roles, beside router, miner, guard and validator.
a validator~the validator~validators|a node that votes on blocks|A validator is a node that votes on the blocks of the Cortensor chain.|Its voting power is its stake times its score for useful work.
a client~the client~clients|a user of the network|A client is a person or a program that sends prompts to the network.|A client opens a session, asks questions and signs vouchers for the answers.
a session~the session~sessions|a deposit for requests|A session is a deposit of tokens that pays for many requests.|It takes two operations on the chain, one to open it and one to close it, however many questions you ask.
escrow~the escrow~an escrow~the deposit|money held by a contract|Escrow means that a contract holds the money until the work is done.|In Cortensor a session holds the deposit of the client, and what was not spent goes back.
a receipt~the receipt~receipts|a signed record of work|A receipt is a record of an answer that the miner signs.|It commits the miner to the tokens that it made, so that others can check them later.
a voucher~the voucher~vouchers|a signed promise to pay|A voucher is a promise to pay that the client signs.|The router signs it too, and the miner can redeem it on the chain at any time.
a trace~the trace~traces|a record of each token|A trace is a record of how each token of an answer was chosen.|Guards use it to replay the work of a miner.
an audit~the audit~audits|a check of an answer|An audit is a check of an answer by guards.|Audits are drawn by chance after the miner has committed to its answer.
a verdict~the verdict~verdicts|the result of an audit|A verdict is what a guard found in an audit.|Guards first commit to a verdict and reveal it later, so nobody can copy.
evidence~the evidence|the sum of findings|Evidence is what many audits say about a miner together.|It grows only from work, so being idle is not guilty.
an epoch~the epoch~epochs|a span of time|An epoch is a fixed span of time on the chain.|Scores, rewards and voting powers change from one epoch to the next.
a beacon~the beacon~the random beacon|shared randomness|A beacon is a source of randomness that nobody can choose.|It decides which answers are audited and which tasks nodes must run.
a manifest~the model manifest~a model manifest|a description of a model|A manifest describes a model exactly.|It names the weights by their hashes, the tokenizer, the chat template and the context length.
reputation~the reputation of a miner~a score|a record of good work|Reputation says how well a node has worked so far.|It comes from audits of real tasks and helps routers choose.
stake~the stake~staking|a deposit of a node|Stake is money that a node locks as a promise to be honest.|A node that cheats can lose it.
slashing~being slashed|losing stake|Slashing means that a node loses part of its stake because it cheated.|It needs strong evidence, or a proof that carries the node's own signature.
Proof of Inference~proof of inference~the proof of inference|a check of AI work|Proof of Inference shows that a miner really ran the right model on the right prompt.|It binds the tokens to a seed that the miner cannot choose, and guards can replay a part of the work cheaply.
Proof of Useful Work~proof of useful work|voting by useful work|Proof of Useful Work means that voting power comes from stake and from useful work.|Nodes that answer well get a better score, and the score counts in the next epoch.
failover~mid-stream failover~a failover|moving to another miner|Failover means that another miner takes over when one fails.|The answer goes on from the last token that was delivered, so you notice at most a short pause.
the L1~layer one~L1|the base chain|L1 is the base chain, for example any Ethereum chain.|It holds the token, the governance and the checkpoints of L2.
the L2~layer two~L2|the Cortensor chain|L2 is the Cortensor chain itself.|It keeps the registry of nodes, the sessions, the audits and the rewards.
an L3~the L3~layer three~L3|a private network|An L3 is a private or customised network with the same contracts.|It has a list of members and sends its checkpoints to L2.
inference~AI inference|running a model|Inference means running a trained model to get an answer.|For a language model it means predicting one token after another.
the Cortensor token~the token of the network~the network token|the money of the network|The Cortensor token is the token that pays for work in the network.|Clients deposit it, miners earn it, and nodes stake it.
""")

ASK_WHAT = """[What is|What's|What exactly is|Define|Explain|Describe|Please explain|Tell me about|What do you know about|Say something about] {x}[?|.]
What is {x} [in Cortensor|in this network|in the network|here]?
Can you [explain|tell me] what {x} is?
What [does {x} mean|is meant by {x}]?
[I want to know|I would like to know|Tell me|Do you know] what {x} is[.|?]
Explain {x} [to me|in simple words|in one sentence|to a beginner][.|]
How would you [explain|describe] {x}?
Who or what is {x}?
{x}?
I [do not understand|have never heard of|am new, what is] {x}[.|?]""".splitlines()

ASK_DO = """What does {x} do?
What [is the job of|is the role of|is the task of] {x}?
What is {x} [for|good for|used for]?
How does {x} work?
Why [do we need|is there|does Cortensor need|would I want] {x}?
What is the point of {x}?""".splitlines()

# questions (~ separated, may hold alternatives) | short | answer
QUESTIONS = rows("""
How do miners get paid?~How is a miner paid?~How do I earn money as a miner?~How does a miner earn?~Who pays the miners?|by vouchers|The client signs vouchers for the tokens that it received, and the miner redeems them on the chain.
How do I pay for answers?~How does payment work?~How do I pay?~How are requests paid?~How does the payment work in Cortensor?|with a session|You open a session with a deposit, and every answer is paid from it by a signed voucher.
Can I run a miner?~Can anyone join?~Who can join?~Can I join the network?~How can I take part?|yes|Yes. Anyone with a CPU or a GPU can run a miner and join the network.
Do I need a GPU?~Is a GPU needed?~Can I mine without a GPU?~Can I mine with a CPU?~Can I take part with a laptop?|no|No. A CPU is enough for small models, but a GPU is much faster.
How does Cortensor work?~How does it all work?~How does the network work?~Explain how Cortensor works.~What happens when I ask a question?~What happens to my prompt?|client, router, miner|You send a prompt to a router. The router picks a miner, and the miner runs the model and streams the answer back. The miner signs a receipt, and you sign a voucher that pays for it. Guards check a few answers that are drawn by chance.
What if a miner fails?~What happens when a miner dies?~What if a miner stops in the middle of an answer?~What if the node crashes?~What happens if a miner goes offline?|another takes over|The router picks another miner, and the answer goes on from the last token that was delivered.
What if a miner cheats?~How are cheats caught?~What happens to a cheating miner?~Can a miner cheat?~How do you catch cheaters?|guards find it|Guards replay some of the answers. A miner that cheats leaves evidence, and it can lose its stake.
Do I have to trust the miner?~Must I trust the node?~Why should I trust the answer?~How can I trust a miner?|no|No. The miner signs a receipt, and guards can check its work, so you need not trust it.
How can I check a receipt?~How do I verify a receipt?~Which command checks a receipt?~How to verify receipts?|cortensor receipt verify|Run the command cortensor receipt verify with the file. It needs nothing but the file and the chain.
How do I start the demo?~How can I run the demo?~Which command starts the demo?~How do I try Cortensor?~How do I get started?|cortensor demo|Run the command cortensor demo. It starts everything in one process and asks a few questions.
Which clients can I use?~Can I use the OpenAI client?~Is it compatible with OpenAI?~Which API does Cortensor have?~Can I use my existing code?|any OpenAI client|You can use any OpenAI client. Only the address and the key change.
How do I add a real model?~How can I use a better model?~Can I use my own model?~How do I add a model?~Which command adds a model?|cortensor model add|Use the command cortensor model add with the path of a GGUF file.
Who owns Cortensor?~Who runs Cortensor?~Who controls the network?~Which company runs it?~Is there a boss?|nobody alone|Nobody runs it alone. It is an open network of many nodes.
What roles are there in Cortensor?~Which roles does the network have?~Which kinds of nodes exist?~List the roles in Cortensor.~What types of nodes are there?|router, miner, guard, oracle, validator|The roles are router, miner, guard, oracle and validator.
What is the difference between a router and a miner?~Router or miner, what is the difference?~How is a miner different from a router?~How do a router and a miner differ?|the router chooses, the miner works|A router chooses who answers, and a miner runs the model that answers.
What is the difference between a receipt and a voucher?~Receipt or voucher, what is the difference?~How is a voucher different from a receipt?~How do a receipt and a voucher differ?|work and payment|A receipt is signed by the miner and says what was delivered. A voucher is signed by the client and says what is paid.
What is the difference between a guard and a miner?~How do guards and miners differ?~How is a guard different from a miner?|the miner works, the guard checks|A miner answers prompts, and a guard checks a few of those answers.
Why is Cortensor decentralised?~Why decentralised AI?~What is good about Cortensor?~Why should I use Cortensor?~What are the advantages of Cortensor?|open to all|No single company can switch it off or choose who may use it. Anyone can offer computing power, and everyone can check the work.
How many chain operations does a session need?~How many transactions does a session take?~How often does a session touch the chain?|two|A session needs two chain operations: one to open it and one to close it.
How do I get my money back?~What happens to unspent money?~Can I get the rest of my deposit back?~What happens when I close a session?|close the session|Close the session. After a grace time the rest of the deposit comes back to you.
What does a miner risk when a client vanishes?~What if the client does not pay?~What if a client never pays?|the credit limit|The miner stops when the credit limit is reached, so it loses very little.
Is my prompt private?~Who can read my prompt?~Is Cortensor private?~Are my questions secret?|the miner reads it|The connection is encrypted, but the miner must read the prompt to answer it. So do not send secrets.
""")


def concept_fact(rng: random.Random) -> Fact:
    names, short, first, more = rng.choice(CONCEPTS)
    name = rng.choice(names.split("~"))
    doing = rng.random() < 0.25
    ask = expand(rng, rng.choice(ASK_DO if doing else ASK_WHAT), x=name)
    full = first if rng.random() < 0.15 and not doing else f"{first} {more}"
    subject = names.split("~")[0]
    return Fact([sentence(ask)], short, full, {"term": subject, "meaning": short})


def question_fact(rng: random.Random) -> Fact:
    asks, short, full = rng.choice(QUESTIONS)
    ask = rng.choice(asks.split("~"))
    return Fact([ask], short, full, {"answer": short})
