"""What every search keeps, whatever it expands next: its completions, its nodes, its scores, and what they took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from restrl.search.asking import Asking
from restrl.search.puct import TextLogprob
from restrl.search.tree import Draw, Node, StateKey, TreeStatistics
from restrl.search.wants import RewardWant, ValueWant
from restrl.types import Completion, State


class Drawing(Asking):
    """A search from one state.

    Attributes:
        root: The root node.
        draws: The completions in the order of sampling.
        seed: The seed.
    """

    def __init__(self, root: State, seed: int) -> None:
        """Makes the root node.

        Raises:
            ValueError: The root is terminal.
        """
        super().__init__()
        if root.terminal:
            raise ValueError("the root of a search is terminal; nothing can be sampled from it")
        self.root = Node(root, None, 0)
        self.draws: list[Draw] = []
        self.seed = seed
        self._nodes = [self.root]
        self._scores: dict[StateKey, float] = {}
        self._score_keys: dict[int, StateKey] = {}
        self._requests = self._prompt_tokens = self._reused_prompt_tokens = 0
        self._cost = 0.0
        self._repeated = self._reused = self._re_expansions = self._num_scored = 0

    @property
    def nodes(self) -> Sequence[Node]:
        """All nodes in the order of creation, the root first."""
        return self._nodes

    def statistics(self) -> TreeStatistics:
        """Returns what the search has done so far; changes nothing."""
        return TreeStatistics(
            completions=len(self.draws),
            unique_completions=len({(draw.program, draw.finished) for draw in self.draws}),
            cut_off=sum(not draw.finished for draw in self.draws),
            requests=self._requests,
            generated_tokens=sum(draw.num_tokens for draw in self.draws),
            prompt_tokens=self._prompt_tokens,
            reused_prompt_tokens=self._reused_prompt_tokens,
            cost=self._cost,
            scored_states=self._num_scored,
            repeated_scores=self._repeated,
            reused_suffixes=self._reused,
            re_expansions=self._re_expansions,
            nodes=len(self._nodes),
            terminal_nodes=sum(node.state.terminal for node in self._nodes),
            depth=self._depth(),
        )

    def _depth(self) -> int:
        return max(node.depth for node in self._nodes)

    def _request(self, node: Node, n: int, seed: int) -> int | None:
        """Wants ``n`` completions from a node; None where none are needed."""
        if not n:
            return None
        self._requests += 1
        return self._want_samples(node.state, n, seed)

    def _record(self, node: Node, completion: Completion, likelihood: TextLogprob | None = None) -> Draw:
        """Takes a completion from a node into the books."""
        self._reused_prompt_tokens += completion.reused_prompt_tokens
        self._prompt_tokens += completion.prompt_tokens - completion.reused_prompt_tokens
        self._cost += completion.cost
        draw = Draw(
            index=len(self.draws),
            start=len(node.state.code),
            code=node.state.code + completion.text,
            finished=completion.finish_reason == "stop",
            num_tokens=completion.num_tokens,
            tip=node,
            likelihood=likelihood,
        )
        self.draws.append(draw)
        return draw

    def _want_missing(self, keys: Iterable[StateKey], kind: type[ValueWant] | type[RewardWant]) -> None:
        """Wants a score for each of these states that has none yet, once."""
        wanted = {*self._scores, *self._score_keys.values()}
        for key in keys:
            if key in wanted:
                self._repeated += 1
                continue
            wanted.add(key)
            self._score_keys[self._want_score(State(self.root.state.problem, *key), kind)] = key

    def _take_scores(self) -> None:
        for want_id, key in self._score_keys.items():
            self._scores[key] = self._values.pop(want_id)
        self._num_scored += len(self._score_keys)
        self._score_keys.clear()
