"""Word lists and fact tables. Common knowledge, written down for this corpus."""

from .grammar import rows

NAMES = """Anna Ben Clara David Emma Felix Grace Hugo Iris Jack Kate Leo Maya Noah Olive Paul Quinn Rosa Sam Tara Umar Vera
Will Xenia Yusuf Zoe Alice Bob Carlos Diana Ethan Fatima George Hannah Ivan Julia Kevin Laura Mark Nina Oscar Petra Ravi
Sara Tom Uma Victor Wendy Yara Zack Lena Mia Max Lucy John Mary James Linda Peter Susan Daniel Sofia Omar Aisha Chen Yuki
Priya Ahmed Elena Marco Ines Lars Freya Mateo Lucia Kofi Amara Hiro Mei Dmitri Olga Pablo Carmen Sven Ingrid Tariq Layla""".split()

CAPITALS = rows("""
France|Paris|Europe
Germany|Berlin|Europe
Italy|Rome|Europe
Spain|Madrid|Europe
Portugal|Lisbon|Europe
England|London|Europe
the United Kingdom|London|Europe
Ireland|Dublin|Europe
Scotland|Edinburgh|Europe
Wales|Cardiff|Europe
the Netherlands|Amsterdam|Europe
Belgium|Brussels|Europe
Switzerland|Bern|Europe
Austria|Vienna|Europe
Poland|Warsaw|Europe
Czechia|Prague|Europe
Hungary|Budapest|Europe
Greece|Athens|Europe
Sweden|Stockholm|Europe
Norway|Oslo|Europe
Denmark|Copenhagen|Europe
Finland|Helsinki|Europe
Iceland|Reykjavik|Europe
Russia|Moscow|Europe
Ukraine|Kyiv|Europe
Romania|Bucharest|Europe
Bulgaria|Sofia|Europe
Croatia|Zagreb|Europe
Serbia|Belgrade|Europe
Slovakia|Bratislava|Europe
Slovenia|Ljubljana|Europe
Estonia|Tallinn|Europe
Latvia|Riga|Europe
Lithuania|Vilnius|Europe
Turkey|Ankara|Asia
China|Beijing|Asia
Japan|Tokyo|Asia
South Korea|Seoul|Asia
North Korea|Pyongyang|Asia
India|New Delhi|Asia
Pakistan|Islamabad|Asia
Bangladesh|Dhaka|Asia
Nepal|Kathmandu|Asia
Thailand|Bangkok|Asia
Vietnam|Hanoi|Asia
Indonesia|Jakarta|Asia
Malaysia|Kuala Lumpur|Asia
the Philippines|Manila|Asia
Mongolia|Ulaanbaatar|Asia
Iran|Tehran|Asia
Iraq|Baghdad|Asia
Saudi Arabia|Riyadh|Asia
Israel|Jerusalem|Asia
Jordan|Amman|Asia
Qatar|Doha|Asia
Afghanistan|Kabul|Asia
Egypt|Cairo|Africa
Morocco|Rabat|Africa
Algeria|Algiers|Africa
Tunisia|Tunis|Africa
Nigeria|Abuja|Africa
Ghana|Accra|Africa
Kenya|Nairobi|Africa
Ethiopia|Addis Ababa|Africa
Uganda|Kampala|Africa
Senegal|Dakar|Africa
South Africa|Pretoria|Africa
Canada|Ottawa|North America
the United States|Washington|North America
Mexico|Mexico City|North America
Cuba|Havana|North America
Jamaica|Kingston|North America
Panama|Panama City|North America
Brazil|Brasilia|South America
Argentina|Buenos Aires|South America
Chile|Santiago|South America
Peru|Lima|South America
Colombia|Bogota|South America
Venezuela|Caracas|South America
Ecuador|Quito|South America
Bolivia|Sucre|South America
Uruguay|Montevideo|South America
Australia|Canberra|Oceania
New Zealand|Wellington|Oceania
Fiji|Suva|Oceania
""")

CITIES = sorted({row[1] for row in CAPITALS}) + """New York,Los Angeles,Chicago,Boston,Toronto,Vancouver,Sydney,Melbourne,Munich,
Hamburg,Milan,Naples,Barcelona,Seville,Porto,Lyon,Nice,Geneva,Zurich,Mumbai,Shanghai,Osaka,Kyoto,Lagos,Istanbul,Dubai,Singapore,
Hong Kong,Rio de Janeiro,Cape Town,San Francisco,Seattle,Miami,Denver,Dallas,Leeds,Bristol,Glasgow,Antwerp,Krakow""".replace("\n", "").split(",")

OPPOSITES = rows("""
hot|cold
big|small
up|down
left|right
day|night
black|white
fast|slow
old|new
happy|sad
good|bad
open|closed
full|empty
heavy|light
hard|soft
high|low
tall|short
long|short
wet|dry
early|late
rich|poor
strong|weak
clean|dirty
loud|quiet
near|far
inside|outside
in|out
on|off
yes|no
true|false
first|last
front|back
top|bottom
begin|end
start|stop
push|pull
buy|sell
win|lose
love|hate
give|take
come|go
laugh|cry
wide|narrow
thick|thin
deep|shallow
easy|difficult
safe|dangerous
smooth|rough
sharp|dull
sweet|sour
young|old
right|wrong
dark|bright
summer|winter
north|south
east|west
before|after
above|below
over|under
always|never
everything|nothing
friend|enemy
question|answer
question mark|full stop
arrive|leave
remember|forget
find|lose
brave|afraid
kind|mean
polite|rude
cheap|expensive
beautiful|ugly
many|few
more|less
same|different
asleep|awake
alive|dead
male|female
king|queen
float|sink
rise|fall
""")
OPPOSITES = [pair for pair in OPPOSITES if pair[0] not in ("question mark", "king")]

PLURALS = rows("""
cat|cats
dog|dogs
house|houses
tree|trees
car|cars
book|books
box|boxes
bus|buses
fox|foxes
dish|dishes
watch|watches
church|churches
glass|glasses
class|classes
city|cities
baby|babies
story|stories
country|countries
berry|berries
party|parties
lady|ladies
fly|flies
boy|boys
day|days
key|keys
monkey|monkeys
leaf|leaves
wolf|wolves
knife|knives
wife|wives
life|lives
half|halves
shelf|shelves
loaf|loaves
child|children
man|men
woman|women
person|people
tooth|teeth
foot|feet
goose|geese
mouse|mice
ox|oxen
sheep|sheep
fish|fish
deer|deer
potato|potatoes
tomato|tomatoes
hero|heroes
photo|photos
piano|pianos
apple|apples
bird|birds
horse|horses
flower|flowers
river|rivers
star|stars
bridge|bridges
orange|oranges
egg|eggs
cow|cows
chair|chairs
table|tables
window|windows
door|doors
""")

PAST = rows("""
go|went
eat|ate
see|saw
run|ran
sing|sang
swim|swam
write|wrote
read|read
give|gave
take|took
make|made
come|came
think|thought
buy|bought
bring|brought
teach|taught
sleep|slept
speak|spoke
drive|drove
fly|flew
know|knew
grow|grew
drink|drank
begin|began
find|found
win|won
walk|walked
play|played
jump|jumped
talk|talked
""")

SYNONYMS = rows("""
happy|glad
big|large
small|little
fast|quick
smart|clever
begin|start
end|finish
angry|mad
pretty|beautiful
quiet|silent
scared|afraid
sick|ill
rich|wealthy
tired|sleepy
funny|amusing
easy|simple
hard|difficult
help|assist
answer|reply
brave|courageous
sad|unhappy
strange|odd
correct|right
speak|talk
look|see
""")

COLOURS = "red orange yellow green blue purple pink brown black white grey".split()

THING_COLOURS = rows("""
the sky|blue
grass|green
a banana|yellow
snow|white
a lemon|yellow
blood|red
the sun|yellow
a carrot|orange
a strawberry|red
chocolate|brown
coal|black
milk|white
a leaf|green
a cucumber|green
a tomato|red
an orange|orange
a plum|purple
a flamingo|pink
an elephant|grey
a frog|green
a cherry|red
the sea|blue
a polar bear|white
a crow|black
a swan|white
a fire engine|red
a pea|green
a raspberry|red
a blueberry|blue
a pumpkin|orange
the night sky|black
a cloud|white
salt|white
sand|yellow
a tree trunk|brown
a rose|red
a sunflower|yellow
a bee|yellow and black
a zebra|black and white
a panda|black and white
a penguin|black and white
gold|yellow
an emerald|green
a ruby|red
a sapphire|blue
""")

MIXES = rows("""
red|blue|purple
blue|yellow|green
red|yellow|orange
red|white|pink
black|white|grey
red|green|brown
blue|white|light blue
""")

# name | sound | legs | food | young | home | one more thing
ANIMALS = rows("""
cat|meow|4|fish and meat|kitten|in houses|likes to sleep and chase mice
dog|woof|4|meat|puppy|in houses|is a loyal friend of people
cow|moo|4|grass|calf|on farms|gives milk
horse|neigh|4|grass and hay|foal|on farms|can run very fast
pig|oink|4|almost anything|piglet|on farms|likes to roll in mud
sheep|baa|4|grass|lamb|on farms|gives wool
goat|maa|4|grass and leaves|kid|on farms and mountains|is very good at climbing
duck|quack|2|plants and insects|duckling|near ponds|swims with webbed feet
chicken|cluck|2|grain and insects|chick|on farms|lays eggs
lion|roar|4|meat|cub|in the grasslands of Africa|is called the king of animals
tiger|roar|4|meat|cub|in the forests of Asia|has orange fur with black stripes
bear|growl|4|berries, fish and honey|cub|in forests|sleeps through the winter
wolf|howl|4|meat|pup|in forests|lives in a pack
fox|yip|4|small animals and berries|cub|in forests and fields|has a bushy tail
rabbit|squeak|4|grass and carrots|bunny|in burrows|has long ears
mouse|squeak|4|seeds and cheese|pup|in small holes|is very small
elephant|trumpet|4|grass, leaves and fruit|calf|in Africa and Asia|is the largest land animal
monkey|chatter|4|fruit and insects|infant|in trees|swings from branch to branch
frog|croak|4|insects|tadpole|near ponds|can jump far
bee|buzz|6|nectar|larva|in hives|makes honey
ant|nothing|6|almost anything|larva|in nests under the ground|can carry things heavier than itself
spider|nothing|8|insects|spiderling|in webs|spins silk
owl|hoot|2|mice|owlet|in trees|hunts at night
crow|caw|2|almost anything|chick|in trees|is a clever black bird
eagle|screech|2|fish and small animals|eaglet|on high cliffs|has very good eyes
parrot|squawk|2|seeds and fruit|chick|in warm forests|can copy words
penguin|squawk|2|fish|chick|in the cold south|cannot fly but swims very well
snake|hiss|0|small animals|hatchling|in grass, forests and deserts|has no legs
fish|nothing|0|plants and small animals|fry|in water|breathes with gills
whale|song|0|small sea animals|calf|in the ocean|is the largest animal on Earth
dolphin|click|0|fish|calf|in the ocean|is clever and playful
shark|nothing|0|fish|pup|in the ocean|has many sharp teeth
turtle|nothing|4|plants and small animals|hatchling|in water and on beaches|has a hard shell
giraffe|hum|4|leaves|calf|in the grasslands of Africa|has a very long neck
zebra|bark|4|grass|foal|in the grasslands of Africa|has black and white stripes
kangaroo|cluck|2|grass|joey|in Australia|carries its young in a pouch
camel|grunt|4|dry plants|calf|in deserts|stores fat in its hump
deer|bleat|4|grass and leaves|fawn|in forests|can run fast
squirrel|chatter|4|nuts and seeds|kitten|in trees|hides nuts for the winter
hedgehog|snuffle|4|insects|hoglet|in gardens|has sharp spines
butterfly|nothing|6|nectar|caterpillar|in gardens and fields|has colourful wings
donkey|hee-haw|4|grass and hay|foal|on farms|can carry heavy loads
octopus|nothing|0|crabs and shellfish|hatchling|in the ocean|has eight arms
bat|squeak|2|insects and fruit|pup|in caves|flies at night
panda|bleat|4|bamboo|cub|in the mountains of China|has black and white fur
""")

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MONTH_LENGTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
SEASONS = ["winter", "winter", "spring", "spring", "spring", "summer", "summer", "summer", "autumn", "autumn", "autumn", "winter"]
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split()
NUMBER_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty""".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()

CATEGORIES = {
    "fruits": "apple banana orange pear grape cherry peach plum mango strawberry lemon melon".split(),
    "vegetables": "carrot potato onion cabbage spinach tomato cucumber pea bean pumpkin".split(),
    "animals": "dog cat horse lion elephant rabbit bear wolf tiger monkey".split(),
    "farm animals": "cow horse pig sheep goat chicken duck donkey".split(),
    "birds": "eagle owl parrot crow penguin duck swan sparrow robin".split(),
    "colours": "red blue green yellow orange purple pink brown black white".split(),
    "colors": "red blue green yellow orange purple pink brown black white".split(),
    "countries": "France,Japan,Brazil,Canada,Egypt,India,Spain,Kenya,Mexico,Italy".split(","),
    "cities": "Paris,Tokyo,London,Rome,Cairo,Madrid,Berlin,Lima,Oslo,Vienna".split(","),
    "planets": PLANETS,
    "sports": "football tennis basketball swimming running cycling hockey volleyball rugby".split(),
    "musical instruments": "piano guitar violin drum flute trumpet cello harp".split(),
    "instruments": "piano guitar violin drum flute trumpet cello harp".split(),
    "flowers": "rose tulip daisy lily sunflower violet orchid".split(),
    "trees": "oak pine maple birch willow apple palm".split(),
    "drinks": "water tea coffee milk juice lemonade cocoa".split(),
    "foods": "bread rice pasta soup cheese salad pizza eggs".split(),
    "clothes": "shirt trousers coat hat scarf socks shoes gloves".split(),
    "jobs": "teacher doctor baker farmer nurse pilot writer cook".split(),
    "tools": "hammer saw screwdriver drill wrench pliers shovel".split(),
    "seasons": "spring summer autumn winter".split(),
    "days of the week": DAYS,
    "months": MONTHS,
    "continents": "Africa,Antarctica,Asia,Europe,North America,South America,Oceania".split(","),
    "oceans": "Pacific Atlantic Indian Arctic Southern".split(),
    "insects": "ant bee butterfly beetle fly moth grasshopper".split(),
    "sea animals": "whale dolphin shark octopus crab turtle seal".split(),
    "shapes": "circle square triangle rectangle star oval".split(),
    "languages": "English French Spanish German Italian Chinese Arabic Hindi".split(),
    "vehicles": "car bus train bicycle truck boat plane".split(),
    "roles in Cortensor": "router,miner,guard,oracle,validator".split(","),
}

# thing | what it is
DEFINITIONS = rows("""
the sun|the star at the centre of our solar system, and it gives us light and warmth
the moon|a ball of rock that travels around the Earth once a month
a star|a huge ball of hot gas that shines in the sky
a planet|a large round body that travels around a star
the Earth|the planet we live on, the third one from the sun
rain|water that falls from clouds in drops
snow|frozen water that falls from clouds as white flakes
ice|water that is frozen solid
wind|air that moves
a cloud|a mass of tiny water drops that floats in the sky
a rainbow|a bow of colours that appears when the sun shines through rain
thunder|the loud sound that lightning makes
lightning|a flash of electricity in a storm
a storm|bad weather with strong wind and rain
a river|a long stream of water that flows to the sea
a lake|a large area of water with land all around it
the sea|a very large area of salt water
an ocean|one of the largest areas of salt water on Earth
a mountain|a very high piece of land
a volcano|a mountain that can throw out hot melted rock
an island|a piece of land with water all around it
a desert|a very dry place where few plants grow
a forest|a large area with many trees
a tree|a tall plant with a trunk of wood, branches and leaves
a flower|the colourful part of a plant that makes seeds
a seed|the small part of a plant from which a new plant grows
a book|a set of pages with words or pictures to read
a library|a place where you can read and borrow books
a school|a place where children learn
a hospital|a place where sick people are cared for
a house|a building where people live
a bridge|something that carries a road over water or a valley
a car|a vehicle with four wheels and an engine
a bicycle|a vehicle with two wheels that you move with your feet
a train|a row of wagons that runs on rails
a boat|a small vehicle that travels on water
a plane|a vehicle with wings that flies
a clock|a thing that shows the time
a map|a drawing of a place seen from above
a compass|a tool whose needle points to the north
a telescope|a tool that makes far things look near
a camera|a tool that takes pictures
a computer|a machine that follows instructions very fast
a program|a list of instructions for a computer
the internet|a worldwide network of connected computers
a phone|a tool for talking to people far away
a language model|a program that predicts the next piece of text, again and again
artificial intelligence|the art of making machines that do things that seem to need thinking
machine learning|a way to make programs that learn from examples
a token|a small piece of text, about a word or part of a word
a prompt|the text that you give to a language model
a GPU|a chip that does very many small calculations at the same time
a CPU|the main chip of a computer
a robot|a machine that can do work on its own
a blockchain|a list of records that many computers keep together and nobody can secretly change
a smart contract|a program on a blockchain that moves money by fixed rules
a wallet|a program that keeps the keys to your money on a blockchain
a private key|a secret number that lets you sign and spend
a signature|a proof that the holder of a key agreed to a message
a hash|a short fingerprint of some data
encryption|a way to hide a message so that only the right person can read it
electricity|a kind of energy that flows through wires
gravity|the force that pulls things towards the ground
a magnet|a piece of metal that pulls iron
energy|what is needed to move, heat or light something
water|a clear liquid that all living things need
air|the mix of gases that we breathe
fire|the light and heat of something that burns
gold|a soft yellow metal that is worth a lot
iron|a strong grey metal
glass|a hard clear material made from sand
paper|thin sheets made from wood, used for writing
bread|a food baked from flour, water and yeast
cheese|a food made from milk
honey|a sweet food that bees make
milk|a white drink that cows give
tea|a hot drink made from leaves
coffee|a hot drink made from roasted beans
chocolate|a sweet food made from cocoa beans
pizza|a flat round bread baked with tomato, cheese and other things
a friend|a person you like and trust
a family|a group of people who belong together
a teacher|a person who helps others learn
a doctor|a person who helps sick people get well
a farmer|a person who grows food
a baker|a person who bakes bread
music|sounds put together so that they are nice to hear
a poem|a short text with rhythm and pictures made of words
a story|a text that tells what happened to someone
a song|words that are sung to a tune
a dream|the pictures in your mind while you sleep
a question|a sentence that asks for an answer
a noun|a word for a person, a place or a thing
a verb|a word for something that is done
an adjective|a word that describes a noun
a triangle|a shape with three sides
a square|a shape with four equal sides
a circle|a perfectly round shape
an even number|a number that can be divided by two
a year|the time the Earth needs to travel once around the sun
a week|seven days
a birthday|the day of the year on which someone was born
""")

# question | short | full
GENERAL = rows("""
How many days are in a week?|seven|There are seven days in a week.
How many days are there in a week?|seven|There are seven days in a week.
How many months are in a year?|twelve|There are twelve months in a year.
How many months does a year have?|twelve|There are twelve months in a year.
How many days are in a year?|365|There are 365 days in a year, and 366 in a leap year.
How many days does a year have?|365|There are 365 days in a year, and 366 in a leap year.
How many hours are in a day?|24|There are 24 hours in a day.
How many hours does a day have?|24|There are 24 hours in a day.
How many minutes are in an hour?|60|There are 60 minutes in an hour.
How many seconds are in a minute?|60|There are 60 seconds in a minute.
How many weeks are in a year?|52|There are about 52 weeks in a year.
How many seasons are there?|four|There are four seasons: spring, summer, autumn and winter.
How many continents are there?|seven|There are seven continents.
How many oceans are there?|five|There are five oceans.
How many planets are there?|eight|There are eight planets in our solar system.
How many planets are in the solar system?|eight|There are eight planets in our solar system.
How many letters are in the alphabet?|26|There are 26 letters in the English alphabet.
How many fingers do people have?|ten|People have ten fingers.
How many toes does a person have?|ten|A person has ten toes.
How many eyes does a person have?|two|A person has two eyes.
How many sides does a triangle have?|three|A triangle has three sides.
How many sides does a square have?|four|A square has four sides.
How many wheels does a car have?|four|A car has four wheels.
How many wheels does a bicycle have?|two|A bicycle has two wheels.
How many colours are in a rainbow?|seven|A rainbow has seven colours.
What is the largest planet?|Jupiter|The largest planet in our solar system is Jupiter.
What is the biggest planet?|Jupiter|The biggest planet in our solar system is Jupiter.
What is the smallest planet?|Mercury|The smallest planet in our solar system is Mercury.
Which planet is closest to the sun?|Mercury|Mercury is the planet closest to the sun.
Which planet is red?|Mars|Mars is called the red planet.
Which planet do we live on?|Earth|We live on the planet Earth.
Which planet has rings?|Saturn|Saturn is famous for its rings.
What is the largest ocean?|Pacific|The largest ocean is the Pacific Ocean.
What is the biggest animal?|whale|The blue whale is the biggest animal on Earth.
What is the largest animal in the world?|whale|The blue whale is the largest animal on Earth.
What is the largest land animal?|elephant|The elephant is the largest land animal.
What is the tallest animal?|giraffe|The giraffe is the tallest animal.
What is the fastest land animal?|cheetah|The cheetah is the fastest land animal.
What is the highest mountain?|Everest|The highest mountain on Earth is Mount Everest.
What is the tallest mountain in the world?|Everest|The tallest mountain on Earth is Mount Everest.
What is the longest river?|Nile|The Nile is often called the longest river in the world.
What is the largest country?|Russia|Russia is the largest country in the world.
What is the largest continent?|Asia|Asia is the largest continent.
What is the smallest continent?|Oceania|The smallest continent is Oceania.
What is the largest desert?|Sahara|The Sahara is the largest hot desert.
At what temperature does water freeze?|0 degrees Celsius|Water freezes at 0 degrees Celsius.
When does water freeze?|0 degrees Celsius|Water freezes at 0 degrees Celsius.
At what temperature does water boil?|100 degrees Celsius|Water boils at 100 degrees Celsius.
When does water boil?|100 degrees Celsius|Water boils at 100 degrees Celsius.
What do bees make?|honey|Bees make honey.
What do cows give?|milk|Cows give milk.
What do plants need?|light, water and air|Plants need light, water, air and good soil.
What do people breathe?|air|People breathe air. They need the oxygen in it.
What is ice made of?|water|Ice is made of frozen water.
What is bread made of?|flour|Bread is made of flour, water, salt and yeast.
What is glass made of?|sand|Glass is made of sand.
What is paper made of?|wood|Paper is made of wood.
What is cheese made of?|milk|Cheese is made of milk.
What is chocolate made of?|cocoa beans|Chocolate is made of cocoa beans, milk and sugar.
What is water made of?|hydrogen and oxygen|Water is made of hydrogen and oxygen.
Where does the sun rise?|in the east|The sun rises in the east.
Where does the sun set?|in the west|The sun sets in the west.
Where does rain come from?|clouds|Rain comes from clouds.
Where does milk come from?|cows|Milk comes from cows.
Where do fish live?|in water|Fish live in water.
Where do eggs come from?|chickens|The eggs we eat mostly come from chickens.
Why is the sky blue?|scattering|The sky is blue because the air scatters blue light more than red light.
Why is grass green?|chlorophyll|Grass is green because of chlorophyll, which catches sunlight.
Why do leaves fall in autumn?|to save water|Trees drop their leaves in autumn to save water in the winter.
Why do we sleep?|to rest|We sleep so that the body and the mind can rest.
Why do birds fly south?|for warmth|Many birds fly south in winter to find warmth and food.
Why does it rain?|clouds get heavy|It rains when the drops in a cloud become too heavy to float.
Why do we have seasons?|the Earth is tilted|We have seasons because the Earth is tilted while it travels around the sun.
Why is the sea salty?|minerals|The sea is salty because rivers carry minerals into it.
What language do people speak in France?|French|People in France speak French.
What language is spoken in Spain?|Spanish|In Spain people speak Spanish.
What language do they speak in Germany?|German|People in Germany speak German.
What language do people speak in Italy?|Italian|People in Italy speak Italian.
What language do people speak in Brazil?|Portuguese|People in Brazil speak Portuguese.
What language do people speak in Japan?|Japanese|People in Japan speak Japanese.
What language do people speak in China?|Chinese|Most people in China speak Chinese.
What do you wear on your feet?|shoes|You wear socks and shoes on your feet.
What do you wear on your head?|a hat|You wear a hat on your head.
What do you use to cut paper?|scissors|You use scissors to cut paper.
What do you use to write?|a pen|You use a pen or a pencil to write.
What do you drink in the morning?|tea or coffee|Many people drink tea or coffee in the morning.
What shines at night?|the moon|The moon and the stars shine at night.
What comes after night?|day|After the night comes the day.
Who bakes bread?|a baker|A baker bakes bread.
Who helps sick people?|a doctor|A doctor helps sick people.
Who teaches children?|a teacher|A teacher teaches children.
""")

# statement that is true or false | answer | reason
YES_NO = rows("""
Is the sky blue?|yes|On a clear day the sky is blue.
Is grass blue?|no|Grass is green.
Is snow white?|yes|Snow is white.
Is snow hot?|no|Snow is cold.
Is fire hot?|yes|Fire is very hot.
Is ice cold?|yes|Ice is frozen water, so it is cold.
Is the sun cold?|no|The sun is very hot.
Is the sun a star?|yes|The sun is the star closest to us.
Is the moon a star?|no|The moon is not a star. It is a ball of rock that travels around the Earth.
Is the Earth flat?|no|The Earth is round like a ball.
Is the Earth round?|yes|The Earth is round like a ball.
Can fish swim?|yes|Fish swim very well.
Can fish fly?|no|Most fish cannot fly. They swim.
Can birds fly?|yes|Most birds can fly.
Can a penguin fly?|no|A penguin cannot fly, but it swims very well.
Can dogs fly?|no|Dogs cannot fly.
Can cats climb trees?|yes|Cats climb very well.
Can elephants fly?|no|Elephants are much too heavy to fly.
Can you swim?|no|I am a program, so I cannot swim.
Do cows give milk?|yes|Cows give milk.
Do bees make honey?|yes|Bees make honey.
Do spiders have eight legs?|yes|Spiders have eight legs.
Do snakes have legs?|no|Snakes have no legs.
Do fish have legs?|no|Fish have fins, not legs.
Do plants need water?|yes|Plants need water to live.
Do penguins live in the desert?|no|Penguins live mostly in the cold south.
Is water wet?|yes|Water is wet.
Is a tomato a fruit?|yes|For a scientist a tomato is a fruit, though cooks use it as a vegetable.
Is a whale a fish?|no|A whale is a mammal, not a fish.
Is a dog an animal?|yes|A dog is an animal.
Is a carrot an animal?|no|A carrot is a vegetable.
Is an apple a fruit?|yes|An apple is a fruit.
Is Paris in France?|yes|Paris is the capital of France.
Is London in Italy?|no|London is in England.
Is Tokyo in Japan?|yes|Tokyo is the capital of Japan.
Is Monday a month?|no|Monday is a day of the week.
Is July in summer?|yes|In the northern half of the world July is in summer.
Is sugar sweet?|yes|Sugar is sweet.
Is a lemon sweet?|no|A lemon is sour.
Is chocolate made of cocoa?|yes|Chocolate is made of cocoa beans.
Is Cortensor decentralised?|yes|Anyone can join it, and no single company runs it.
""")
