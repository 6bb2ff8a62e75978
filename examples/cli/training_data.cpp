#include "training_data.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "deltatune/core/random.hpp"
#include "deltatune/core/sort_stably.hpp"
#include "report.hpp"
#include "run_record.hpp"

namespace deltatune::cli {

namespace {

void append(Notes& notes_io, const Notes& more) { notes_io.insert(notes_io.end(), more.begin(), more.end()); }

// Puts the examples into `data_io`. classes: for the split, one per example.
void split(const DataOptions& options, std::vector<Example> examples, const std::vector<std::int32_t>& classes, bool regression, TrainingData& data_io) {
  const bool splits = options.eval_data.empty() && options.eval_fraction > 0;
  const std::vector<bool> is_held_out = held_out(classes, splits ? options.eval_fraction : 0, options.seed);
  data_io.training = Dataset(regression);
  Dataset evaluation(regression);
  std::vector<Index> order(examples.size());
  std::iota(order.begin(), order.end(), Index{0});
  if (splits) order = shuffled_order(options.seed, 0, static_cast<Index>(examples.size()));
  for (const Index i : order) (is_held_out[static_cast<std::size_t>(i)] ? evaluation : data_io.training).add(std::move(examples[static_cast<std::size_t>(i)]));
  if (evaluation.size() > 0) data_io.evaluation = std::move(evaluation);
  if (data_io.training.size() == 0) throw Error(options.data, "no examples are left to train on", {.remedy = "lower --eval-fraction"});
  if (splits && !data_io.evaluation)
    data_io.notes.push_back(options.data + ": too few examples to hold any out, so there is no evaluation; --eval-data names other texts for it");
}

// A table with its label column, and the examples of the rows that have a label.
struct LabelledTable {
  Table table;
  TextColumns columns;
  LabelColumn column;

  LabelledTable(const std::string& file, const TextColumns& given)
      : table(read_table(file)), columns(resolve_columns(table, given, true)), column(read_label_column(table, columns.label)) {}
  LabelledTable(const LabelledTable&) = delete;  // the column points at the table
  LabelledTable& operator=(const LabelledTable&) = delete;

  template <class SetLabel>
  std::vector<Example> examples(const TextEncoding& encoding, Index max_length, Notes& notes_io, const SetLabel& set_label) {
    append(notes_io, table_notes(table));
    append(notes_io, column.notes);
    std::vector<Example> all = tokenize(table, columns, encoding, max_length, notes_io, [this](std::size_t row) { return !column.labels[row].empty(); });
    std::vector<Example> labelled;
    for (std::size_t row = 0; row < all.size(); ++row) {
      if (column.labels[row].empty()) continue;
      set_label(row, all[row]);
      labelled.push_back(std::move(all[row]));
    }
    return labelled;
  }
};

std::vector<Example> classified(LabelledTable& table_io, const std::vector<std::string>& classes, const TextEncoding& encoding, Index max_length,
                                const std::string& remedy, Notes& notes_io) {
  const std::vector<std::int32_t> numbers = class_numbers(table_io.column, classes, remedy);
  return table_io.examples(encoding, max_length, notes_io, [&](std::size_t row, Example& example) { example.label = numbers[row]; });
}

std::vector<Example> scored(LabelledTable& table_io, const TextEncoding& encoding, Index max_length, Notes& notes_io) {
  const std::vector<std::optional<float>> targets =
      scores(table_io.column, "leave the cell empty to leave the row out, or train a model that names classes with --task classify");
  return table_io.examples(encoding, max_length, notes_io, [&](std::size_t row, Example& example) { example.target = *targets[row]; });
}

Dataset dataset_of(std::vector<Example> examples, bool regression) {
  Dataset data(regression);
  for (Example& example : examples) data.add(std::move(example));
  return data;
}

std::vector<Index> class_counts(const Dataset& data, std::size_t classes) {
  std::vector<Index> counts(classes, 0);
  for (Index i = 0; i < data.size(); ++i) ++counts[static_cast<std::size_t>(data[i].label)];
  return counts;
}

void note_rare_classes(const DataOptions& options, TrainingData& data_io) {
  const std::vector<Index> training = class_counts(data_io.training, data_io.labels.size());
  const std::vector<Index> evaluation = data_io.evaluation ? class_counts(*data_io.evaluation, data_io.labels.size()) : std::vector<Index>();
  std::vector<std::string> untrained, unevaluated;
  for (std::size_t c = 0; c < training.size(); ++c) {
    if (training[c] == 0) untrained.push_back(data_io.labels[c]);
    if (training[c] > 0 && !evaluation.empty() && evaluation[c] == 0) unevaluated.push_back(data_io.labels[c]);
  }
  if (!untrained.empty()) data_io.notes.push_back(options.data + ": has no examples of " + listed(untrained));
  if (!unevaluated.empty())
    data_io.notes.push_back("the evaluation has no examples of " + listed(unevaluated) + (options.eval_data.empty() ? ": too few to hold any out" : ""));
}

void note_scores_outside(const DataOptions& options, TrainingData& data_io) {
  if (!data_io.evaluation || data_io.training.size() == 0) return;
  float lowest = data_io.training[0].target, highest = lowest;
  for (Index i = 0; i < data_io.training.size(); ++i) {
    lowest = std::min(lowest, data_io.training[i].target);
    highest = std::max(highest, data_io.training[i].target);
  }
  Index outside = 0;
  for (Index i = 0; i < data_io.evaluation->size(); ++i) {
    const float score = (*data_io.evaluation)[i].target;
    outside += score < lowest || score > highest ? 1 : 0;
  }
  if (outside > 0)
    data_io.notes.push_back((options.eval_data.empty() ? options.data : options.eval_data) + ": " + grouped(outside) + " of " +
                            counted(data_io.evaluation->size(), "held-out score") + (outside == 1 ? " lies" : " lie") + " outside of those trained on, " +
                            formatted("%g", static_cast<double>(lowest)) + " to " + formatted("%g", static_cast<double>(highest)));
}

// The training data and what is held out of it, or other data for the evaluation. read: from a file to its examples.
template <class Read>
void read_parts(const DataOptions& options, const Read& read, TrainingData& data_io) {
  Dataset all = read(options.data);
  if (!options.eval_data.empty()) {
    data_io.training = std::move(all);
    data_io.evaluation = read(options.eval_data);
    return;
  }
  std::vector<Example> examples;
  for (Index i = 0; i < all.size(); ++i) examples.push_back(std::move(all[i]));
  const std::vector<std::int32_t> one_class(examples.size(), 0);
  split(options, std::move(examples), one_class, false, data_io);
}

// What the trained adapter that is to be trained further has learned from.
void check_pairs(const DataOptions& options, const LabelledTable& table) {
  if (!options.init_adapter.empty()) check_texts(trained_texts({}, {options.init_adapter}), table.columns.pair, table.table.columns);
}

}  // namespace

std::vector<bool> held_out(const std::vector<std::int32_t>& classes, double fraction, std::uint64_t seed) {
  struct Share {
    Index all = 0, out = 0;
    double rest = 0;  // of its share, what is not out
  };
  std::map<std::int32_t, Share> shares;
  for (const std::int32_t c : classes) ++shares[c].all;
  Index missing = static_cast<Index>(std::floor(fraction * static_cast<double>(classes.size()) + 1e-9));
  std::vector<Share*> by_rest;
  for (auto& [c, share] : shares) {
    const double wanted = fraction * static_cast<double>(share.all);
    share.out = std::min(static_cast<Index>(std::floor(wanted + 1e-9)), share.all - 1);
    share.rest = wanted - static_cast<double>(share.out);
    missing -= share.out;
    by_rest.push_back(&share);
  }
  deltatune::detail::sort_stably(by_rest.begin(), by_rest.end(), [](const Share* a, const Share* b) { return a->rest > b->rest; });
  for (Share* const share : by_rest) {
    if (missing <= 0 || share->out + 1 >= share->all) continue;
    ++share->out;
    --missing;
  }
  std::vector<bool> out(classes.size(), false);
  for (const Index i : shuffled_order(seed, 0, static_cast<Index>(classes.size()))) {
    Share& share = shares[classes[static_cast<std::size_t>(i)]];
    if (share.out == 0) continue;
    --share.out;
    out[static_cast<std::size_t>(i)] = true;
  }
  return out;
}

TrainingData language_data(const DataOptions& options, const TextEncoding& encoding) {
  TrainingData data;
  read_parts(
      options,
      [&](const std::string& file) {
        return options.chat == nullptr ? tokenize_for_language(file, encoding, options.max_length, data.notes)
                                       : tokenize_conversations(file, encoding, *options.chat, options.max_length, data.notes, data.date_is_printed);
      },
      data);
  return data;
}

TrainingData pair_data(const DataOptions& options, const Architecture& architecture, const TextEncoding& encoding) {
  TrainingData data;
  data.pair_columns = options.pairs.columns;
  read_parts(
      options,
      [&](const std::string& file) {
        const Table table = read_table(file);
        append(data.notes, table_notes(table));
        data.pair_columns = resolve_pair_columns(table, data.pair_columns, true);  // those of --data hold for --eval-data
        PairSettings settings = options.pairs;
        settings.columns = data.pair_columns;
        return tokenize_pairs(table, settings, encoding, architecture, data.notes).data;
      },
      data);
  return data;
}

TrainingData labelled_data(const DataOptions& options, const OutputLayer& layer, const TextEncoding& encoding) {
  LabelledTable table(options.data, options.columns);
  check_pairs(options, table);
  TrainingData data;
  if (const std::vector<std::string> found = table.column.distinct(); found.size() < 2)
    throw Error(table.column.place(), "holds a single label", {.expected = "two classes or more", .got = listed(found)});
  data.labels = choose_classes(table.column, layer, options.labels, options.any_labels);
  const std::string remedy = "correct it, or name all classes with --labels";
  std::vector<Example> examples = classified(table, data.labels, encoding, options.max_length, remedy, data.notes);
  if (!options.eval_data.empty()) {
    data.training = dataset_of(std::move(examples), false);
    LabelledTable evaluation(options.eval_data, table.columns);
    data.evaluation = dataset_of(classified(evaluation, data.labels, encoding, options.max_length, remedy, data.notes), false);
  } else {
    std::vector<std::int32_t> classes;
    for (const Example& example : examples) classes.push_back(example.label);
    split(options, std::move(examples), classes, false, data);
  }
  note_rare_classes(options, data);
  return data;
}

TrainingData scored_data(const DataOptions& options, const TextEncoding& encoding) {
  LabelledTable table(options.data, options.columns);
  check_pairs(options, table);
  TrainingData data;
  data.labels = {"score"};
  std::vector<Example> examples = scored(table, encoding, options.max_length, data.notes);
  const std::vector<std::int32_t> one_class(examples.size(), 0);
  if (!options.eval_data.empty()) {
    data.training = dataset_of(std::move(examples), true);
    LabelledTable evaluation(options.eval_data, table.columns);
    data.evaluation = dataset_of(scored(evaluation, encoding, options.max_length, data.notes), true);
  } else {
    split(options, std::move(examples), one_class, true, data);
  }
  note_scores_outside(options, data);
  return data;
}

std::string class_report(const TrainingData& data) {
  constexpr std::size_t kShown = 40;
  std::vector<std::string> header{"class", "texts"};
  if (data.evaluation) header.push_back("evaluation");
  TextTable table(header);
  const std::vector<Index> training = class_counts(data.training, data.labels.size());
  const std::vector<Index> evaluation = data.evaluation ? class_counts(*data.evaluation, data.labels.size()) : training;
  for (std::size_t c = 0; c < std::min(kShown, training.size()); ++c)
    table.add({data.labels[c], grouped(training[c]), data.evaluation ? grouped(evaluation[c]) : ""});
  return table.text() + (training.size() > kShown ? "and " + std::to_string(training.size() - kShown) + " more classes\n" : "");
}

}  // namespace deltatune::cli
