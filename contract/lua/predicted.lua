-- Publish how far predictions were off. ARGV: field and value of each figure.
redis.call('DEL', 'fb:prediction')
for i = 1, #ARGV, 2 do redis.call('HSET', 'fb:prediction', ARGV[i], ARGV[i + 1]) end
