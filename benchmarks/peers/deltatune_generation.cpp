// Tokens per second of generation, for transformers_generation.py to set beside transformers.
//
//   deltatune_generation FOLDER PROMPTS.json NEW_TOKENS THREADS [REPEATS]
// PROMPTS.json: a list of lists of token ids. Prints one JSON object: the tokens, and the seconds of the fastest run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "deltatune/deltatune.hpp"

int main(int count, char** arguments) try {
  using namespace deltatune;
  using X = Tensor<float, DefaultCpu>;
  if (count < 5) throw Error("deltatune_generation", "needs a folder, a file of prompts, a number of tokens and one of threads");
  std::ifstream file(arguments[2]);
  PackedBatch prompts;
  for (const std::vector<std::int32_t> prompt : nlohmann::json::parse(file)) prompts.add(prompt);
  DefaultCpu::Context ctx(std::atoi(arguments[4]));
  Transformer<X> model = Transformer<X>::load(ctx, arguments[1], Head::language_model());
  const GenerationConfig config{.max_new_tokens = std::atoi(arguments[3]), .stops_at_end = false};
  double best = std::numeric_limits<double>::infinity();
  std::vector<Continuation> texts;
  for (int repeat = 0; repeat < (count > 5 ? std::atoi(arguments[5]) : 3); ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    texts = generate(ctx, model, prompts, config);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  nlohmann::json tokens = nlohmann::json::array();
  for (const Continuation& text : texts) tokens.push_back(text.tokens);
  std::printf("%s\n", nlohmann::json{{"tokens", tokens}, {"seconds", best}}.dump().c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
