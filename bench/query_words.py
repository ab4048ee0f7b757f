"""The words of the log that queries are measured on."""

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COMMON: Final = _words("""
    refund order customer delivery damaged payment request late invoice amount account approved limit replacement
    return parcel credit price claim discount shipment contract carrier missing address broken seal warehouse urgent
    manual review risk policy exception manager evidence photograph confirmed writing previous loyal member premium
    partner region branch store online cash card transfer bank currency exchange weekend holiday season winter summer
    morning evening night early delay traffic weather storm flood accident insurance coverage damage repair workshop
    spare engine battery screen cable charger phone laptop tablet printer camera speaker headset keyboard monitor
    license renewal upgrade downgrade subscription trial monthly yearly quarterly billing statement balance overdue
    reminder notice dispute chargeback fraud suspicious login password identity document passport verification age
    consent privacy deletion export backup restore server outage latency capacity memory storage network router switch
    firewall certificate expired domain hosting mail spam filter rule threshold alert incident severity escalation
    handover shift rota vacancy candidate interview offer salary bonus travel hotel flight train taxi receipt expense
    budget forecast revenue margin supplier tender bid quote purchase requisition catalog stock inventory shelf pallet
    container vessel harbor customs tariff duty inspection quality defect batch recall safety hazard training audit
    finding remedy deadline extension grace penalty waiver fee interest loan mortgage deposit guarantee collateral
    rating score model feature drift retrain rollout rollback canary release patch ticket backlog sprint priority
    estimate milestone roadmap stakeholder seminar survey feedback complaint praise apology gesture voucher coupon
""")
"""Words of titles, summaries and reasons, the most frequent first."""

RARE: Final = _words("""
    abacus albatross amethyst anvil apricot axolotl bassoon beeswax bergamot bobsled brocade calliope caramel cedar
    chinchilla cinnamon clavichord cobalt crampon dahlia dirigible dulcimer eggplant ermine falcon fennel filigree
    gargoyle ginkgo gondola harpsichord heron hibiscus igloo indigo jackal jasmine kayak kestrel lacquer lantern
    lichen macaw marzipan meteor mosaic narwhal nutmeg obsidian ocelot origami oyster paprika pelican quartz quince
    rhubarb saffron tamarind zeppelin
""")
"""Each in the title of one in 1,200 finished traces."""
