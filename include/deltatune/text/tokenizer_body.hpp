// The body of Tokenizer (tokenizer.hpp).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/function_ref.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/sort_stably.hpp"
#include "deltatune/core/task_queue.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/tokenizer.hpp"
#include "deltatune/text/tokenizer_files.hpp"
#include "deltatune/text/tokenizer_json.hpp"
#include "deltatune/text/tokenizer_parts.hpp"

namespace deltatune {

namespace detail {

// Where the tokens of a text are in it, and what they are called.
struct TokenDetails {
  std::vector<TextSpan> offsets;
  std::vector<std::string> tokens;
};

// From bytes of a text to its code points.
class CodePointIndex {
 public:
  explicit CodePointIndex(std::string_view text) : size_(text.size()) {
    if (ascii_length(text, 0) == text.size()) return;
    numbers_.reserve(text.size());
    std::uint32_t number = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (at > 0 && !is_utf8_continuation(text[at])) ++number;
      numbers_.push_back(number);
    }
  }

  // A span that begins at the end of the text stays as it is, as in the library.
  TextSpan operator()(TextSpan bytes) const {
    if (bytes.begin >= size_) return bytes;
    const std::uint32_t begin = number(bytes.begin);
    if (bytes.end < size_) return {begin, number(bytes.end)};
    return {begin, (bytes.end - 1 < size_ ? number(bytes.end - 1) : begin + 1) + 1};
  }

 private:
  std::uint32_t number(std::uint32_t byte) const { return numbers_.empty() ? byte : numbers_[byte]; }

  std::size_t size_;
  std::vector<std::uint32_t> numbers_;  // of the code point that each byte belongs to; empty for ASCII
};

class TokenizerState {
 public:
  // What a thread works with.
  struct Scratch {
    PiecedText pieced;
    AlignedText part, other;
    std::vector<CharacterChange> changes;
    ModelScratch model;
    std::string valid;
    std::vector<std::int32_t> first, second;
    std::vector<TextSpan> places;
  };

  explicit TokenizerState(TokenizerParts parts)
      : vocabulary_(std::move(parts.vocabulary)),
        normalizer_(std::move(parts.normalizer)),
        pre_tokenizer_(std::move(parts.pre_tokenizer)),
        model_(std::move(*parts.model)),
        post_processor_(std::move(parts.post_processor)),
        decoder_(std::move(parts.decoder)) {
    number_tokens(parts);
    find_added_tokens(parts);
    for (const auto* items : {&post_processor_.single, &post_processor_.pair}) {
      for (const TemplateItem& item : *items)
        for (const std::int32_t id : item.ids)
          if (!has_token(id)) throw Error(parts.name + ": post_processor", "id not in the vocabulary", {.got = std::to_string(id)});
    }
    const auto id = [this](const std::string& token) { return token.empty() ? std::nullopt : id_of(token); };
    bos_ = id(parts.bos_token);
    eos_ = id(parts.eos_token);
    pad_ = id(parts.pad_token);
    bool rewritten = !normalizer_.is_identity();
    for (const PreTokenizerStep& step : pre_tokenizer_.steps()) {
      const auto* const metaspace = std::get_if<Metaspace>(&step);
      needs_source_ = needs_source_ || (rewritten && metaspace != nullptr && metaspace->prepend == PrependScheme::kFirst);
      rewritten = rewritten || metaspace != nullptr || std::holds_alternative<ByteLevelSplit>(step);
    }
  }

  // A scratch for the time of a call; its caches stay warm for the next one.
  class Lease {
   public:
    explicit Lease(const TokenizerState& state) : state_(state) {
      const std::lock_guard lock(state.idle_mutex_);
      if (!state.idle_.empty()) {
        scratch_ = std::move(state.idle_.back());
        state.idle_.pop_back();
      }
      if (!scratch_) scratch_ = std::make_unique<Scratch>();
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() {
      const std::lock_guard lock(state_.idle_mutex_);
      try {
        state_.idle_.push_back(std::move(scratch_));
      } catch (const std::bad_alloc&) {  // the next call makes one of its own
      }
    }
    Scratch& operator*() const { return *scratch_; }

   private:
    const TokenizerState& state_;
    std::unique_ptr<Scratch> scratch_;
  };

  // Appends the ids of a text without special tokens around it.
  DELTATUNE_FUNCTION void append_ids(std::string_view text, Scratch& scratch, std::vector<std::int32_t>& ids_io, TokenDetails* details_io = nullptr) const {
    if (text.size() > std::numeric_limits<std::uint32_t>::max() / 4) {
      throw Error("text", "is too long",
                  {.expected = "at most a gigabyte", .got = std::to_string(text.size()) + " bytes", .remedy = "cut it into several texts"});
    }
    if (!is_utf8(text)) {
      scratch.valid = text;
      deltatune::replace_invalid_utf8(scratch.valid);
      text = scratch.valid;
    }
    PiecedText& pieced = scratch.pieced;
    pieced.pieces.clear();
    pieced.text.clear();
    pieced.text.tracked = details_io != nullptr || needs_source_;
    raw_.split(
        text, [&](std::size_t begin, std::size_t end) { add_text(text, begin, end, scratch); },
        [&](std::int32_t id, std::size_t begin, std::size_t end) {
          const std::size_t at = pieced.text.text.size();
          pieced.text.append_original(text.substr(begin, end - begin), begin);
          pieced.pieces.push_back({static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(pieced.text.text.size()), id});
        });
    pre_tokenizer_.apply(pieced);
    std::visit([&](const auto& model) { run_model(model, text, scratch, ids_io, details_io); }, model_);
  }

  // How many ids of one text, or of each of two, stay within the options' length.
  DELTATUNE_FUNCTION static std::pair<std::size_t, std::size_t> kept(std::size_t first, std::size_t second, bool is_pair, const PostProcessor& processor,
                                                                     const EncodeOptions& options) {
    if (options.max_length == 0) return {first, second};
    const Index special = options.special_tokens ? PostProcessor::special_tokens(items(is_pair, processor)) : 0;
    if (options.max_length < special) {
      throw Error("max_length", "too short for the special tokens",
                  {.expected = "at least " + std::to_string(special), .got = std::to_string(options.max_length)});
    }
    const std::size_t room = static_cast<std::size_t>(options.max_length - special);
    if (first + second <= room) return {first, second};
    if (room == 0) return {0, 0};
    if (options.truncation != Truncation::kLongestFirst) {
      const bool cuts_first = options.truncation == Truncation::kOnlyFirst;
      if (!cuts_first && !is_pair) throw Error("truncation", "only_second needs a second text");
      const std::size_t excess = first + second - room;
      if ((cuts_first ? first : second) <= excess) {
        throw Error("truncation", std::string("the ") + (cuts_first ? "first" : "second") + " text is too short to make up for the other one's length",
                    {.expected = "more than " + std::to_string(excess) + " tokens in it", .got = std::to_string(cuts_first ? first : second)});
      }
      return cuts_first ? std::pair(first - excess, second) : std::pair(first, second - excess);
    }
    if (!is_pair) return {room, 0};
    const bool second_is_longer = first <= second;
    const std::size_t shorter = std::min(std::min(first, second), room / 2);
    return second_is_longer ? std::pair(shorter, room - shorter) : std::pair(room - shorter, shorter);
  }

  // The frame around one text or two.
  DELTATUNE_FUNCTION static const std::vector<TemplateItem>& items(bool is_pair, const PostProcessor& processor) {
    if (is_pair && processor.pair.empty()) {
      throw Error("tokenizer", "has no pairs of texts", {.remedy = "join the two into one text"});
    }
    return is_pair ? processor.pair : processor.single;
  }

  // Calls visit(item, begin, end) for each item of the frame; begin and end are of the tokens that stay, 0 for fixed tokens.
  template <class Visit>
  static void for_each_item(std::size_t first, std::size_t second, bool is_pair, const PostProcessor& processor, const EncodeOptions& options, Visit&& visit) {
    const std::vector<TemplateItem>& frame = items(is_pair, processor);
    const auto [first_kept, second_kept] = kept(first, second, is_pair, processor, options);
    const bool from_left = options.cut_side == Side::kLeft;
    for (const TemplateItem& item : frame) {
      if (item.kind == TemplateItem::Kind::kTokens) {
        if (options.special_tokens) visit(item, std::size_t{0}, item.ids.size());
        continue;
      }
      const bool is_first = item.kind == TemplateItem::Kind::kFirst;
      const std::size_t all = is_first ? first : second, stay = is_first ? first_kept : second_kept;
      visit(item, from_left ? all - stay : 0, from_left ? all : stay);
    }
  }

  // Appends the ids of a text or two; types: unless null, one type per id.
  DELTATUNE_FUNCTION void encode(std::string_view first, const std::string_view* second, const PostProcessor& processor, const EncodeOptions& options,
                                 Scratch& scratch, std::vector<std::int32_t>& ids_io, std::vector<std::int32_t>* types_io) const {
    scratch.first.clear();
    scratch.second.clear();
    append_ids(first, scratch, scratch.first);
    if (second != nullptr) append_ids(*second, scratch, scratch.second);
    for_each_item(
        scratch.first.size(), scratch.second.size(), second != nullptr, processor, options, [&](const TemplateItem& item, std::size_t begin, std::size_t end) {
          const auto& ids = item.kind == TemplateItem::Kind::kTokens ? item.ids : item.kind == TemplateItem::Kind::kFirst ? scratch.first : scratch.second;
          ids_io.insert(ids_io.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(end));
          if (types_io != nullptr) types_io->resize(ids_io.size(), item.type);
        });
  }

  DELTATUNE_FUNCTION Encoding encode_with_offsets(std::string_view first, const std::string_view* second, const PostProcessor& processor,
                                                  const EncodeOptions& options) const {
    const Lease lease(*this);
    Scratch& scratch = *lease;
    TokenDetails details[2];
    scratch.first.clear();
    scratch.second.clear();
    append_ids(first, scratch, scratch.first, &details[0]);
    if (second != nullptr) append_ids(*second, scratch, scratch.second, &details[1]);
    Encoding result;
    for_each_item(scratch.first.size(), scratch.second.size(), second != nullptr, processor, options,
                  [&](const TemplateItem& item, std::size_t begin, std::size_t end) {
                    const std::size_t before = result.ids.size();
                    const bool is_fixed = item.kind == TemplateItem::Kind::kTokens, is_first = item.kind == TemplateItem::Kind::kFirst;
                    const auto& ids = is_fixed ? item.ids : is_first ? scratch.first : scratch.second;
                    for (std::size_t i = begin; i < end; ++i) {
                      result.ids.push_back(ids[i]);
                      result.token_types.push_back(item.type);
                      result.offsets.push_back(is_fixed ? TextSpan{} : details[is_first ? 0 : 1].offsets[i]);
                      result.tokens.push_back(is_fixed ? item.tokens[i] : details[is_first ? 0 : 1].tokens[i]);
                    }
                    if (is_fixed) return;
                    for (const bool adds_prefix_space : processor.trims_adding_prefix_space)
                      for (std::size_t i = before; i < result.ids.size(); ++i) trim(result.tokens[i], i == before, adds_prefix_space, result.offsets[i]);
                  });
    return result;
  }

  // Runs encode_one(text, scratch, ids, types) for each text and puts the results in their order.
  DELTATUNE_FUNCTION EncodedBatch run_batch(std::size_t texts, bool has_types, unsigned threads,
                                            FunctionRef<void(std::size_t, Scratch&, std::vector<std::int32_t>&, std::vector<std::int32_t>*)> encode_one) const {
    constexpr std::size_t kTextsAtOnce = 64;
    struct Chunk {
      std::vector<std::int32_t> ids, types;
      std::vector<std::size_t> sizes;
    };
    std::vector<Chunk> chunks((texts + kTextsAtOnce - 1) / kTextsAtOnce);
    deltatune::detail::run_tasks(chunks.size(), threads, [&](deltatune::detail::TaskQueue& queue) {
      const Lease lease(*this);
      while (const auto c = queue.take()) {
        Chunk& chunk = chunks[*c];
        for (std::size_t i = *c * kTextsAtOnce; i < std::min(texts, (*c + 1) * kTextsAtOnce); ++i) {
          const std::size_t before = chunk.ids.size();
          encode_one(i, *lease, chunk.ids, has_types ? &chunk.types : nullptr);
          chunk.sizes.push_back(chunk.ids.size() - before);
        }
      }
    });

    EncodedBatch batch;
    std::size_t ids = 0;
    for (const Chunk& chunk : chunks) ids += chunk.ids.size();
    batch.ids.reserve(ids);
    batch.token_types.reserve(has_types ? ids : 0);
    batch.begins.reserve(texts + 1);
    for (Chunk& chunk : chunks) {
      batch.ids.insert(batch.ids.end(), chunk.ids.begin(), chunk.ids.end());
      batch.token_types.insert(batch.token_types.end(), chunk.types.begin(), chunk.types.end());
      for (const std::size_t size : chunk.sizes) batch.begins.push_back(batch.begins.back() + size);
      chunk = {};
    }
    return batch;
  }

  DELTATUNE_FUNCTION std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const std::int32_t id : ids) {
      std::string token = token_of(id);
      if (skip_special_tokens && special_.contains(token)) continue;
      if (decoder_.reads_bytes() && !vocabulary_.contains(id)) {  // a user's own token stands for itself; the library takes "É" in it for a byte
        AlignedText content{.text = std::move(token)}, visible;
        append_byte_characters(content, 0, content.text.size(), visible);
        token = std::move(visible.text);
      }
      tokens.push_back(std::move(token));
    }
    return decoder_.decode(std::move(tokens));
  }

  Index vocab_size() const { return std::max(vocabulary_.size(), added_.size()); }
  bool has_token(std::int32_t id) const { return added_.contains(id) || vocabulary_.contains(id); }
  // What its files put around a text.
  const PostProcessor& post_processor() const { return post_processor_; }
  DELTATUNE_FUNCTION std::vector<std::string> notes() const {
    const auto* const bpe = std::get_if<BpeModel>(&model_);
    const std::string note = bpe == nullptr ? "" : bpe->note();
    return note.empty() ? std::vector<std::string>{} : std::vector<std::string>{note};
  }

  std::optional<std::int32_t> id_of(std::string_view token) const {
    for (const TokenTable* table : {&added_, &vocabulary_})
      if (const std::int32_t id = table->find(token); id != TokenTable::kNone) return id;
    return std::nullopt;
  }

  DELTATUNE_FUNCTION std::string token_of(std::int32_t id) const {
    if (!has_token(id)) throw Error("token id " + std::to_string(id), "not in the vocabulary", {.expected = "0 to " + std::to_string(vocab_size() - 1)});
    return std::string((added_.contains(id) ? added_ : vocabulary_).token_of(id));
  }

  std::optional<std::int32_t> bos() const { return bos_; }
  std::optional<std::int32_t> eos() const { return eos_; }
  std::optional<std::int32_t> pad() const { return pad_; }

 private:
  static bool is_utf8(std::string_view text) {
    for (std::size_t at = ascii_length(text, 0); at < text.size();) {
      const DecodedCodePoint next = decode_utf8(text, at);
      if (!next.well_formed) return false;
      at += next.bytes;
      if (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) at += ascii_length(text, at);
    }
    return true;
  }

  [[noreturn]] static void throw_shared_id(const TokenizerParts& parts, std::int32_t id, std::string_view a, std::string_view b) {
    throw Error(parts.name, "two tokens have one id", {.got = std::to_string(id) + " for \"" + std::string(a) + "\" and \"" + std::string(b) + "\""});
  }

  DELTATUNE_FUNCTION void number_tokens(const TokenizerParts& parts) {
    if (const Index twin = vocabulary_.sort_by_id(); twin >= 0) {
      const std::size_t index = static_cast<std::size_t>(twin);
      throw_shared_id(parts, vocabulary_.id(index), vocabulary_.token_of(vocabulary_.id(index)), vocabulary_.token(index));
    }
    for (const AddedToken& token : parts.added_tokens) {
      if (vocabulary_.contains(token.id) && vocabulary_.token_of(token.id) != token.content) {
        throw_shared_id(parts, token.id, vocabulary_.token_of(token.id), token.content);
      }
      added_.add(token.content, token.id);
      if (token.special) special_.insert(token.content);
    }
    if (const Index twin = added_.sort_by_id(); twin >= 0) {
      const std::size_t index = static_cast<std::size_t>(twin);
      throw_shared_id(parts, added_.id(index), added_.token_of(added_.id(index)), added_.token(index));
    }
  }

  DELTATUNE_FUNCTION void find_added_tokens(TokenizerParts& parts) {
    sort_stably(parts.added_tokens.begin(), parts.added_tokens.end(), [](const AddedToken& a, const AddedToken& b) { return a.special && !b.special; });
    std::vector<AddedToken> raw, normalized;
    for (AddedToken& token : parts.added_tokens) {
      if (token.normalized) {
        AlignedText content{.text = std::move(token.content)}, other;
        std::vector<CharacterChange> changes;
        normalizer_.apply(content, other, changes);
        token.content = std::move(content.text);
      }
      (token.normalized ? normalized : raw).push_back(std::move(token));
    }
    raw_ = AddedTokenFinder(std::move(raw));
    normalized_ = AddedTokenFinder(std::move(normalized));
  }

  // Normalises a part of a text and takes out the added tokens that are looked for afterwards.
  void add_text(std::string_view text, std::size_t begin, std::size_t end, Scratch& scratch) const {
    PiecedText& pieced = scratch.pieced;
    const std::size_t at = pieced.text.text.size();
    if (normalizer_.is_identity()) {
      pieced.text.append_original(text.substr(begin, end - begin), begin);
    } else {
      scratch.part.clear();
      scratch.part.tracked = pieced.text.tracked;
      scratch.part.origin = static_cast<std::uint32_t>(begin);
      scratch.part.append_original(text.substr(begin, end - begin), begin);
      normalizer_.apply(scratch.part, scratch.other, scratch.changes);
      pieced.text.append_part(scratch.part, 0, scratch.part.text.size());
    }
    const auto piece = [at](std::size_t from, std::size_t to, std::int32_t id) {
      return Piece{static_cast<std::uint32_t>(at + from), static_cast<std::uint32_t>(at + to), id};
    };
    normalized_.split(
        std::string_view(pieced.text.text).substr(at), [&](std::size_t from, std::size_t to) { pieced.pieces.push_back(piece(from, to, Piece::kText)); },
        [&](std::int32_t id, std::size_t from, std::size_t to) { pieced.pieces.push_back(piece(from, to, id)); });
  }

  template <class Model>
  void run_model(const Model& model, std::string_view original, Scratch& scratch, std::vector<std::int32_t>& ids_io, TokenDetails* details_io) const {
    const PiecedText& pieced = scratch.pieced;
    if (details_io == nullptr) {
      const TokenSink sink{ids_io};
      for (const Piece& piece : pieced.pieces) {
        if (piece.id != Piece::kText) {
          ids_io.push_back(piece.id);
        } else {
          model.encode(vocabulary_, pieced.view(piece), scratch.model, sink);
        }
      }
      return;
    }
    const CodePointIndex code_points(original);
    for (const Piece& piece : pieced.pieces) {
      const std::string_view view = pieced.view(piece);
      if (piece.id != Piece::kText) {
        ids_io.push_back(piece.id);
        // Another token may have taken the white space that this one stands in.
        details_io->offsets.push_back(piece.begin < piece.end ? code_points(pieced.text.original(piece.begin, piece.end)) : TextSpan{});
        details_io->tokens.emplace_back(view);
        continue;
      }
      const std::size_t before = ids_io.size();
      scratch.places.clear();
      model.encode(vocabulary_, view, scratch.model, TokenSink{ids_io, &scratch.places});
      for (std::size_t i = 0; i < scratch.places.size(); ++i) {
        const TextSpan place = scratch.places[i];
        const bool is_inside = place.begin < place.end && place.end <= view.size();
        details_io->offsets.push_back(code_points(is_inside ? pieced.text.original(piece.begin + place.begin, piece.begin + place.end) : place));
        const std::int32_t id = ids_io[before + i];
        // The library calls a token of Unigram what stands in the text.
        const bool is_surface =
            std::is_same_v<Model, UnigramModel> && is_inside && vocabulary_.find(view.substr(place.begin, place.end - place.begin)) != id && !is_byte_token(id);
        details_io->tokens.emplace_back(is_surface ? view.substr(place.begin, place.end - place.begin) : vocabulary_.token_of(id));
      }
    }
  }

  bool is_byte_token(std::int32_t id) const {
    const std::string_view token = vocabulary_.token_of(id);
    return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>');
  }

  // Takes the white space at the ends of a token out of its offsets, where the token shows it.
  DELTATUNE_FUNCTION static void trim(std::string_view token, bool is_first, bool adds_prefix_space, TextSpan& offsets_io) {
    const auto is_space = [](char32_t c) { return c == kByteCharacters[' '] || unicode::is_white_space(c); };
    std::uint32_t leading = 0, trailing = 0, characters = 0;
    for (std::size_t at = 0; at < token.size();) {
      const DecodedCodePoint next = decode_utf8(token, at);
      trailing = is_space(next.code_point) ? trailing + 1 : 0;
      if (trailing == ++characters) leading = trailing;
      at += next.bytes;
    }
    if (leading > 0) {
      const bool was_added = (is_first || offsets_io.begin == 0) && adds_prefix_space && leading == 1;
      if (!was_added) offsets_io.begin = std::min(offsets_io.begin + leading, offsets_io.end);
    }
    if (trailing > 0 && offsets_io.end >= trailing) offsets_io.end = std::max(offsets_io.end - trailing, offsets_io.begin);
  }

  TokenTable vocabulary_, added_;  // all added tokens are in the latter, those of the model in both
  std::unordered_set<std::string> special_;
  AddedTokenFinder raw_, normalized_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  TokenModel model_;
  PostProcessor post_processor_;
  Decoder decoder_;
  std::optional<std::int32_t> bos_, eos_, pad_;
  bool needs_source_ = false;  // a pre-tokenizer asks where in the text a piece begins
  mutable std::mutex idle_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace detail

DELTATUNE_FUNCTION const detail::PostProcessor& Tokenizer::around() const { return around_ ? *around_ : state_->post_processor(); }

DELTATUNE_FUNCTION Tokenizer Tokenizer::open(const std::filesystem::path& path, const RegexCompiler& regex) {
  return Tokenizer(std::make_shared<const detail::TokenizerState>(detail::read_tokenizer(path, regex)));
}

DELTATUNE_FUNCTION Tokenizer Tokenizer::parse(std::string_view json, const std::string& name, const RegexCompiler& regex) {
  return Tokenizer(std::make_shared<const detail::TokenizerState>(detail::read_tokenizer_json(json, name, regex)));
}

DELTATUNE_FUNCTION std::vector<std::int32_t> Tokenizer::encode(std::string_view text, Index max_length) const {
  return encode(text, EncodeOptions{.max_length = max_length});
}

DELTATUNE_FUNCTION std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const detail::TokenizerState::Lease lease(*state_);
  std::vector<std::int32_t> ids;
  state_->encode(text, nullptr, around(), options, *lease, ids, nullptr);
  return ids;
}

DELTATUNE_FUNCTION EncodedPair Tokenizer::encode_pair(std::string_view first, std::string_view second, Index max_length) const {
  return encode_pair(first, second, EncodeOptions{.max_length = max_length});
}

DELTATUNE_FUNCTION EncodedPair Tokenizer::encode_pair(std::string_view first, std::string_view second, const EncodeOptions& options) const {
  const detail::TokenizerState::Lease lease(*state_);
  EncodedPair pair;
  state_->encode(first, &second, around(), options, *lease, pair.ids, &pair.token_types);
  return pair;
}

DELTATUNE_FUNCTION Encoding Tokenizer::encode_with_offsets(std::string_view text, const EncodeOptions& options) const {
  return state_->encode_with_offsets(text, nullptr, around(), options);
}

DELTATUNE_FUNCTION Encoding Tokenizer::encode_with_offsets(std::string_view first, std::string_view second, const EncodeOptions& options) const {
  return state_->encode_with_offsets(first, &second, around(), options);
}

DELTATUNE_FUNCTION EncodedBatch Tokenizer::encode_batch(std::span<const std::string_view> texts, const EncodeOptions& options, unsigned threads) const {
  return state_->run_batch(texts.size(), false, threads,
                           [&](std::size_t i, detail::TokenizerState::Scratch& scratch, std::vector<std::int32_t>& ids, std::vector<std::int32_t>* types) {
                             state_->encode(texts[i], nullptr, around(), options, scratch, ids, types);
                           });
}

DELTATUNE_FUNCTION EncodedBatch Tokenizer::encode_batch(std::span<const std::pair<std::string_view, std::string_view>> pairs, const EncodeOptions& options,
                                                        unsigned threads) const {
  return state_->run_batch(pairs.size(), true, threads,
                           [&](std::size_t i, detail::TokenizerState::Scratch& scratch, std::vector<std::int32_t>& ids, std::vector<std::int32_t>* types) {
                             state_->encode(pairs[i].first, &pairs[i].second, around(), options, scratch, ids, types);
                           });
}

DELTATUNE_FUNCTION std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  return state_->decode(ids, skip_special_tokens);
}

DELTATUNE_FUNCTION Index Tokenizer::vocab_size() const { return state_->vocab_size(); }
DELTATUNE_FUNCTION std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const { return state_->id_of(token); }
DELTATUNE_FUNCTION std::string Tokenizer::token_of(std::int32_t id) const { return state_->token_of(id); }
DELTATUNE_FUNCTION std::optional<std::int32_t> Tokenizer::bos_id() const { return state_->bos(); }
DELTATUNE_FUNCTION std::optional<std::int32_t> Tokenizer::eos_id() const { return state_->eos(); }
DELTATUNE_FUNCTION std::optional<std::int32_t> Tokenizer::pad_id() const { return state_->pad(); }
DELTATUNE_FUNCTION bool Tokenizer::has_pairs() const { return !around().pair.empty(); }
DELTATUNE_FUNCTION std::vector<std::string> Tokenizer::notes() const { return state_->notes(); }

DELTATUNE_FUNCTION Tokenizer Tokenizer::with_tokens_around(const std::vector<std::int32_t>& before, const std::vector<std::int32_t>& behind) const {
  using Kind = detail::TemplateItem::Kind;
  const auto fixed = [this](const std::vector<std::int32_t>& ids) {
    detail::TemplateItem item{.ids = ids};
    for (const std::int32_t id : ids) item.tokens.push_back(token_of(id));
    return item;
  };
  detail::PostProcessor processor = around();
  processor.single = {fixed(before), {.kind = Kind::kFirst}, fixed(behind)};
  processor.pair = {fixed(before), {.kind = Kind::kFirst}, {.kind = Kind::kSecond}, fixed(behind)};
  Tokenizer other = *this;
  other.around_ = std::make_shared<const detail::PostProcessor>(std::move(processor));
  return other;
}

}  // namespace deltatune
