// Beam search: of each text the num_beams likeliest beginnings are kept, and of the finished texts the num_beams best ones, as Hugging Face's generate() does
// it (transformers 4.50 and later). For texts of encoder-decoders and of decoders alone.
//
// A finished text of n new tokens has the score  Σ log p(token) / n^length_penalty.  In each step the K = num_beams · max(2, 1 + end-of-text tokens) likeliest
// continuations of all beams are found. Of the first num_beams of them those that end join the finished texts, if they are among its best num_beams; the
// likeliest num_beams of the K that do not end go on. A search ends when max_new_tokens are reached; with early_stopping `yes` when there are num_beams
// finished texts; else when there are, and the best beam's score at its length (`never`: at max_new_tokens, where length_penalty is above 0) is not above their
// worst.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "deltatune/model/reading.hpp"

namespace deltatune {

namespace detail {

// A beam that goes on with a token.
struct BeamCandidate {
  std::size_t beam = 0;
  std::int32_t token = 0;
  double score = 0;
};

// The likeliest continuations of several beams, best first.
class BestCandidates {
 public:
  explicit BestCandidates(std::size_t count) : count_(count) {}

  // log_probabilities (V) of the next token of a beam with this score.
  void add(std::size_t beam, double score, std::span<const double> log_probabilities) {
    for (std::size_t token = 0; token < log_probabilities.size(); ++token) {
      const double all = score + log_probabilities[token];
      if (all == -std::numeric_limits<double>::infinity() || (best_.size() == count_ && !(all > best_.front().score))) continue;
      if (best_.size() == count_) {
        std::pop_heap(best_.begin(), best_.end(), better);
        best_.pop_back();
      }
      best_.push_back({beam, static_cast<std::int32_t>(token), all});
      std::push_heap(best_.begin(), best_.end(), better);
    }
  }
  std::vector<BeamCandidate> take() {
    std::sort_heap(best_.begin(), best_.end(), better);
    return std::exchange(best_, {});
  }

 private:
  static bool better(const BeamCandidate& a, const BeamCandidate& b) {
    return a.score != b.score ? a.score > b.score : a.beam != b.beam ? a.beam < b.beam : a.token < b.token;
  }
  std::size_t count_;
  std::vector<BeamCandidate> best_;  // a heap with the worst in front
};

// ln(softmax), with what the configuration says of it.
template <class Model>
void log_probabilities(const Reading<Model>& reading, const RunningSequence& beam, std::span<const typename Reading<Model>::T> scores,
                       std::vector<double>& result) {
  const double largest = static_cast<double>(scores[static_cast<std::size_t>(likeliest_token(scores))]);
  double sum = 0;
  for (const auto score : scores) sum += std::exp(static_cast<double>(score) - largest);
  const double offset = largest + std::log(sum);
  result.resize(scores.size());
  for (std::size_t token = 0; token < scores.size(); ++token) result[token] = static_cast<double>(scores[token]) - offset;
  reading.process(std::span<double>(result), beam);
}

// The search for one text.
struct BeamSearch {
  Index number = 0;                         // of its prompt
  Index first_slot = 0;                     // of its num_beams
  std::vector<Continuation> finished = {};  // best first
  bool ended = false;

  // Puts a text where it belongs among the best.
  void finish(Continuation text, std::size_t most) {
    const auto place = std::find_if(finished.begin(), finished.end(), [&](const Continuation& known) { return known.score < text.score; });
    finished.insert(place, std::move(text));
    if (finished.size() > most) finished.pop_back();
  }

  // One step, from the candidates of its beams: what goes on of them, best first, without slots.
  template <class R>
  std::vector<BeamCandidate> advance(const R& reading, std::span<const RunningSequence> beams, const std::vector<BeamCandidate>& candidates) {
    const GenerationConfig& config = reading.config();
    const std::size_t most = static_cast<std::size_t>(config.num_beams);
    const std::size_t prompt = static_cast<std::size_t>(reading.prompts().length(number));
    const std::size_t length = beams[0].tokens.size() - prompt + 1;  // new tokens, with those of the candidates
    const bool at_length = static_cast<Index>(length) == config.max_new_tokens, stops_early = config.early_stopping == EarlyStopping::yes;
    const bool was_full = finished.size() == most;
    std::vector<BeamCandidate> going_on;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const BeamCandidate& candidate = candidates[i];
      const bool at_end = reading.is_end(candidate.token);
      if (!at_end && !at_length) {
        if (going_on.size() < most) going_on.push_back(candidate);
      } else if (i < most && !(was_full && stops_early)) {
        const std::vector<std::int32_t>& read = beams[candidate.beam].tokens;
        Continuation text{.tokens = {read.begin() + static_cast<std::ptrdiff_t>(prompt), read.end()},
                          .end = at_end ? Continuation::End::end_token : Continuation::End::length,
                          .score = candidate.score / std::pow(static_cast<double>(length), config.length_penalty)};
        text.tokens.push_back(candidate.token);
        finish(std::move(text), most);
      }
    }
    const bool is_full = finished.size() == most;
    const double best_length =
        config.early_stopping == EarlyStopping::never && config.length_penalty > 0 ? static_cast<double>(config.max_new_tokens) : static_cast<double>(length);
    ended = going_on.empty() || (is_full && (stops_early || !(going_on[0].score / std::pow(best_length, config.length_penalty) > finished.back().score)));
    return going_on;
  }
};

// Puts what goes on of a search's beams behind `running_io`. The first child of a beam has its slot, another one gets a copy of it.
template <class Cache, class Context>
void fork_beams(Context& ctx, Cache& cache, Index first_slot, Index num_beams, std::span<const RunningSequence> beams,
                const std::vector<BeamCandidate>& going_on, std::vector<RunningSequence>& running_io) {
  std::vector<bool> has_child(beams.size(), false);
  for (const BeamCandidate& candidate : going_on) has_child[candidate.beam] = true;
  std::vector<bool> is_free(static_cast<std::size_t>(num_beams), true);
  for (std::size_t b = 0; b < beams.size(); ++b)
    if (has_child[b]) is_free[static_cast<std::size_t>(beams[b].slot - first_slot)] = false;
  std::vector<bool> goes_on(beams.size(), false);
  for (const BeamCandidate& candidate : going_on) {
    RunningSequence child = beams[candidate.beam];
    child.tokens.push_back(candidate.token);
    child.score = candidate.score;
    if (goes_on[candidate.beam]) {
      const auto free_slot = std::find(is_free.begin(), is_free.end(), true);
      *free_slot = false;
      const Index slot = first_slot + (free_slot - is_free.begin());
      cache.text.copy_slot(ctx, child.slot, slot);
      child.slot = slot;
    }
    goes_on[candidate.beam] = true;
    running_io.push_back(std::move(child));
  }
}

}  // namespace detail

// The best texts for each prompt, at most num_beams, best first; of an encoder-decoder `prompts` are the source texts, as for generate(). Throws Error as
// generate() does.
template <class Model>
std::vector<std::vector<Continuation>> beam_search(typename Model::Context& ctx, Model& model, const PackedBatch& prompts, const GenerationConfig& given) {
  using T = scalar_of<typename Model::Tensor>;
  if (prompts.count() == 0) return {};
  detail::Reading<Model> reading(ctx, model, prompts, given);
  const GenerationConfig& config = reading.config();
  const Index beams = config.num_beams, at_once = std::min(config.max_sequences, prompts.count());
  const std::size_t ends = config.stops_at_end ? config.end_ids.size() : 0;
  typename Model::Cache cache = reading.make_cache(at_once * beams, at_once);
  std::vector<std::vector<Continuation>> results(static_cast<std::size_t>(prompts.count()));
  std::vector<detail::BeamSearch> searches;
  std::vector<detail::RunningSequence> running;  // beams of one search stand together, in the order of the searches
  std::vector<Index> free_places;
  for (Index place = at_once; place-- > 0;) free_places.push_back(place);
  std::vector<double> log_probabilities;
  Index next_prompt = 0;
  while (true) {
    for (; next_prompt < prompts.count() && !free_places.empty(); ++next_prompt) {
      const Index place = free_places.back();
      free_places.pop_back();
      searches.push_back({.number = next_prompt, .first_slot = place * beams});
      running.push_back(reading.begin(cache, next_prompt, place * beams, place));
    }
    if (running.empty()) return results;

    // By search, of those whose text has been read to its end.
    std::map<Index, detail::BestCandidates> candidates;
    Index beam_number = 0;
    reading.step(running, cache, [&](const detail::RunningSequence& beam, std::span<T> scores) {
      const auto [found, is_new] = candidates.try_emplace(beam.number, static_cast<std::size_t>(beams) * std::max<std::size_t>(2, 1 + ends));
      beam_number = is_new ? 0 : beam_number + 1;
      detail::log_probabilities(reading, beam, std::span<const T>(scores), log_probabilities);
      found->second.add(static_cast<std::size_t>(beam_number), beam.score, log_probabilities);
    });

    std::vector<detail::RunningSequence> next;
    auto first = running.begin();
    for (detail::BeamSearch& search : searches) {
      const auto last = std::find_if(first, running.end(), [&](const detail::RunningSequence& beam) { return beam.number != search.number; });
      const std::span<const detail::RunningSequence> old(first, last);
      first = last;
      const auto found = candidates.find(search.number);
      if (found == candidates.end()) {
        next.insert(next.end(), old.begin(), old.end());
        continue;
      }
      const std::vector<detail::BeamCandidate> going_on = search.advance(reading, old, found->second.take());
      if (!search.ended) {
        detail::fork_beams(ctx, cache, search.first_slot, beams, old, going_on, next);
        continue;
      }
      results[static_cast<std::size_t>(search.number)] = std::move(search.finished);
      free_places.push_back(search.first_slot / beams);
    }
    std::erase_if(searches, [](const detail::BeamSearch& search) { return search.ended; });
    running = std::move(next);
  }
}

}  // namespace deltatune
